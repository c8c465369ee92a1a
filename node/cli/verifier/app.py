"""`hc-verifier`: audit what providers answered, for money, and judge disputes with a stake of one's own."""

from hypercluster.node.cli import backups, program
from hypercluster.node.cli.console import Json
from hypercluster.node.cli.doctor import verifier_doctor
from hypercluster.node.cli.staking import ShareOption, StakeOption, make_keys, register_node
from hypercluster.node.cli.verifier import calibrating, running, standing
from hypercluster.node.home import keys

app = program.application(
    "Audit what providers answered and be paid per audited token; judge disputes with a stake of your own.\n\n"
    "First time: [bold]init[/], put HCT and some coin for gas on the operator account, [bold]register[/], "
    "[bold]calibrate[/] the model, [bold]run[/]. All state is in HC_HOME (default ~/.hypercluster).",
    network=True,
)


@app.command()
def init(json_: Json = False) -> None:
    """Make the node key and the operator key of this verifier.

    Example: [bold]HC_HOME=~/.hypercluster/v1 hc-verifier init[/]

    The node key is hot: it signs verdicts and votes. The operator key holds your stake and receives your money;
    keep a copy of its file and of the password in a safe place.
    """
    make_keys(keys.PROVIDER, "hc-verifier", json_)


@app.command()
def register(stake: StakeOption = None, share: ShareOption = None, json_: Json = False) -> None:
    """Stake and authorise the node key, in three transactions of the operator.

    Example: [bold]hc-verifier register[/]

    The third sends the node key coin for gas: it pays for its own votes. Stake is lost to verifiers that do not
    reveal their votes, or that pass what they never ran.
    """
    register_node(stake, "may judge. Next: hc-verifier calibrate.", json_, share=share)


for command in (
    calibrating.calibrate,
    running.run,
    running.link,
    standing.status,
    standing.cases,
    standing.rewards,
    standing.delist,
    backups.backup,
    backups.restore,
):
    app.command()(command)
app.command("doctor")(verifier_doctor)


def main() -> None:
    """Entry point of `hc-verifier`."""
    program.run(app, "hc-verifier")
