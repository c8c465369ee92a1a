"""Options that several commands of `hc-client` share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hypercluster.node.cli.options import hct, layer_range, literal, prose, real, seconds, share, whole

AuditorName = Literal["auto", "verifier", "provider", "own"]

Alpha = Annotated[
    float,
    share(
        "Weight of price against time: 0 takes the fastest path, 1 the cheapest; how reliable a provider was to "
        "you counts in either case."
    ),
]
OperatorHops = Annotated[
    float | None,
    real(
        "Most of a path's hops that one operator serves while others could: above 0, and 1 is no bound. "
        "HC_OPERATOR_HOPS, 0.5.",
        least=0.01,
        most=1,
        metavar="0.01..1",
    ),
]
OperatorRequests = Annotated[
    float | None,
    real(
        "Most of the latest requests that go over one operator while others could: 1 is no bound. "
        "HC_OPERATOR_REQUESTS, 0.75.",
        least=0.01,
        most=1,
        metavar="0.01..1",
    ),
]
Trials = Annotated[
    float | None,
    share(
        "Share of requests that may go over an operator who never served you, while others are free. "
        "HC_TRIALS, 0.1."
    ),
]
Wait = Annotated[float, seconds("Seconds to look for providers, and to wait for a free one.")]
Tokens = Annotated[int, whole("Tokens to generate at most.", "--tokens", "-n", least=1, most=2**20)]
MaxCost = Annotated[int | None, hct("HCT to pay to providers at most.")]
Temperature = Annotated[float, real("0 is greedy.", least=0, most=100)]
TopK = Annotated[int, whole("Sample among the k best; 0 is all received.", most=2**16)]
TopP = Annotated[float, real("Sample within this mass: above 0, and 1 switches it off.", least=0, most=1)]
MinP = Annotated[
    float, real("Drop what is this much less likely: 0 switches it off, and it is below 1.", least=0, most=1)
]
Seed = Annotated[int | None, whole("Fixes the draws; shown when drawn.", most=2**32 - 2)]
Dtype = Annotated[
    Literal["f32", "f16", "q8", "auto"],
    typer.Option(
        help="Activations on the wire: f32, f16 for half the bytes, q8 for a quarter, or auto for the fewest that were "
        "found to do the model no harm (hc-model wire)."
    ),
]
Draft = Annotated[
    int | None,
    whole(
        "Tokens guessed ahead in one step at most, from what came before or by --draft-model; only where they are "
        "worth their price. Default: 8 with a draft model, else 0.",
        least=0,
        most=16,
    ),
]
DraftModel = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="A small model that guesses ahead on this machine, of the same tokens: a smaller one of the family, or a "
        "coarser quantisation of the same.",
    ),
]
InFlight = Annotated[
    int | None,
    whole(
        "Steps with guesses that are sent before the ones before them are answered, at most; 0 is none. Else as many "
        "as may be, where a step waits longer than it is computed. HC_IN_FLIGHT.",
        least=0,
        most=8,
    ),
]
Local = Annotated[
    list[str] | None,
    layer_range(
        "Layers at an end of the model that this machine computes itself, 0:N or N:M; may be given twice. No provider "
        "sees the token ids with 0:N, nor what comes with N:M.",
        "--local",
    ),
]
Deposit = Annotated[
    int | None,
    hct(
        "HCT to put at least into a channel that is opened or filled up; else what the wallet's policy says.",
        default="0.01",
    ),
]
Spread = Annotated[
    bool, typer.Option("--spread", help="Draw the path by weight instead of taking the lightest.")
]
Spare = Annotated[
    bool,
    typer.Option(
        "--spare",
        help="Have others stand by for the providers of the path, paid the prompt price for each token, to take over "
        "at once where one fails. HC_SPARE.",
    ),
]
NoStay = Annotated[
    bool,
    typer.Option(
        "--no-stay", help="Have providers keep nothing between two turns; each turn runs all that was said."
    ),
]
AuditRate = Annotated[float, share("Share of the stages that are looked over after the completion.")]
Auditor = Annotated[
    AuditorName,
    typer.Option(
        help="Who looks: verifier (staked, paid per token; so does auto), provider (another one of the same "
        "layers), or own (your own shard of the layers)."
    ),
]
TrapRate = Annotated[float, share("Share of the audits in which the verifier is tested as well.")]
Dispute = Annotated[
    bool,
    typer.Option(
        "--dispute", help="Take faults to the chain: the wallet puts down a bond until it is decided."
    ),
]
Trust = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Operators whose stages are not looked over: a file with one address on each line, # begins a comment.",
    ),
]
Stop = Annotated[
    list[str] | None,
    literal("Text at which the answer ends, without it; may be given several times.", "--stop"),
]
System = Annotated[str | None, prose("What a chat's model is told first; makes the prompt a turn of a chat.")]
