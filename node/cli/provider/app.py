"""`hc-provider`: stake, serve layers, and collect what clients pay."""

from hypercluster.node.cli import backups, program
from hypercluster.node.cli.doctor import provider_doctor
from hypercluster.node.cli.provider import claims, placing, running, stake, standing

app = program.application(
    "Serve a few layers of a large language model and be paid for every token.\n\n"
    "First time: [bold]init[/], put HCT and some coin for gas on the operator account, [bold]register[/], "
    "[bold]run[/]. All state is in HC_HOME (default ~/.hypercluster).",
    network=True,
)
for command in (
    stake.init,
    stake.register,
    running.run,
    running.link,
    placing.advise,
    standing.prices,
    standing.status,
    claims.earnings,
    claims.claim,
    stake.unstake,
    stake.revoke,
    stake.withdraw,
    backups.backup,
    backups.restore,
):
    app.command()(command)
app.command("doctor")(provider_doctor)


def main() -> None:
    """Entry point of `hc-provider`."""
    program.run(app, "hc-provider")
