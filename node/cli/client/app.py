"""`hc-client`: run a model over the network and pay for it from a wallet."""

from hypercluster.node.cli import backups
from hypercluster.node.cli.client import policy
from hypercluster.node.cli.client.channels import balance, channels, close, fund, init
from hypercluster.node.cli.client.chatting import chat
from hypercluster.node.cli.client.generating import generate
from hypercluster.node.cli.client.looking import path, peers
from hypercluster.node.cli.client.receipts import receipts, verify
from hypercluster.node.cli.client.trust import audits, demand, reputation, rewards
from hypercluster.node.cli.client.watching import watch
from hypercluster.node.cli.doctor import client_doctor
from hypercluster.node.cli.program import application, run

app = application(
    "Run a large language model over many small providers and pay each of them per token.\n\n"
    "First time: [bold]init[/], put HCT and some coin for gas on the wallet ([bold]fund[/] on a local testnet), "
    "[bold]generate[/]. All state is in HC_HOME (default ~/.hypercluster).",
    network=True,
)
for command in (
    *(init, fund, balance, peers, path, generate, chat, channels, close, watch),
    *(reputation, audits, demand, rewards),
    *(receipts, verify),
    *(backups.backup, backups.restore),
):
    app.command()(command)
app.command("doctor")(client_doctor)
app.add_typer(policy.app, name="policy")


def main() -> None:
    """Entry point of `hc-client`."""
    run(app, "hc-client")


if __name__ == "__main__":
    main()
