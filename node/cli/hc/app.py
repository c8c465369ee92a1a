"""`hc`: from nothing to a chat with a model over the market, in one command."""

from hypercluster.node.cli.hc.chatting import chat
from hypercluster.node.cli.hc.up import up
from hypercluster.node.cli.program import application, run

app = application(
    "From nothing to a chat: [bold]hc up[/] starts a network with play money, or joins one, and gives you a chat "
    "window, an API and a key; [bold]hc chat[/] talks in the terminal.\n\n"
    "What else there is: hc-client pays from a terminal, hc-gateway serves APIs, hc-provider and hc-verifier earn, "
    "hc-model looks into models, hc-market into prices, hc-testnet proves it all."
)
for command in (up, chat):
    app.command()(command)


def main() -> None:
    """Entry point of `hc`."""
    run(app, "hc")
