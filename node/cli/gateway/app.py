"""`hc-gateway`: OpenAI's, Anthropic's and Ollama's APIs over the market, paid from one wallet."""

from hypercluster.node.cli.client import policy
from hypercluster.node.cli.gateway import keys
from hypercluster.node.cli.gateway.linking import link
from hypercluster.node.cli.gateway.running import run
from hypercluster.node.cli.program import application
from hypercluster.node.cli.program import run as run_program

app = application(
    "Let programs that speak OpenAI's, Anthropic's or Ollama's API use the market, paid from your wallet.\n\n"
    "First time: [bold]hc-client init[/] and money on its wallet, [bold]keys create[/] for each program, "
    "[bold]run[/]. All state is in HC_HOME (default ~/.hypercluster).",
    network=True,
)
app.command()(run)
app.command()(link)
app.add_typer(keys.app, name="keys")
app.add_typer(policy.app, name="policy")


def main() -> None:
    """Entry point of `hc-gateway`."""
    run_program(app, "hc-gateway")
