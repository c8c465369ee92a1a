"""What a local network is to start: providers and verifiers as their command lines say it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSpec:
    """One provider to start: layers "a:b", prices in HCT per million tokens, further flags of `hc-provider run`.

    `cheat` names what it does instead of serving honestly, see node.cli.cheating.
    """

    layers: str
    price: str = "1"
    prompt_price: str | None = None
    flags: tuple[str, ...] = ()
    cheat: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return f"provider of layers {self.layers}"

    def command(self) -> list[str]:
        """Its command line."""
        program = (
            ["hypercluster.node.cli.cheating", self.cheat]
            if self.cheat
            else ["hypercluster.node.cli.provider"]
        )
        prompt = ["--prompt-price", self.prompt_price] if self.prompt_price is not None else []
        return [*program, "run", "--layers", self.layers, "--price", self.price, *prompt, *self.flags]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierSpec:
    """One verifier to start: its price in HCT per million audited tokens, further flags of `hc-verifier run`."""

    price: str = "0.5"
    flags: tuple[str, ...] = ()
    lazy: bool = False

    @property
    def name(self) -> str:
        """For messages."""
        return "verifier"

    def command(self) -> list[str]:
        """Its command line."""
        program = (
            ["hypercluster.node.cli.cheating", "lazy-verifier"]
            if self.lazy
            else ["hypercluster.node.cli.verifier"]
        )
        return [*program, "run", "--price", self.price, *self.flags]
