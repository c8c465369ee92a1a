"""Programs that cheat, for demonstrations and tests.

python -m hypercluster.node.cli.cheating KIND run ...     # as hc-provider, or hc-verifier for lazy-verifier
"""

import sys

from hypercluster.node.cli.program import run
from hypercluster.node.testnet.cheats import CHEATS, LINK_CHEATS


def main() -> None:
    """Run `hc-provider` or `hc-verifier` with the cheat named first on the command line."""
    from hypercluster.node.testnet.cheating import lazy_judge, ways_of, ways_on_links

    cheat = sys.argv.pop(1)
    if cheat in LINK_CHEATS:
        from hypercluster.node.cli.provider.app import app as linked

        run(linked, "hc-provider", ways_on_links(cheat))
    if cheat not in CHEATS:
        raise SystemExit(f"{cheat!r} is none of {', '.join((*CHEATS, *LINK_CHEATS))}.")
    if cheat == "lazy-verifier":
        from hypercluster.node.cli.verifier.app import app as verifier

        run(verifier, "hc-verifier", lazy_judge)
    from hypercluster.node.cli.provider.app import app as provider

    run(provider, "hc-provider", ways_of(cheat))


if __name__ == "__main__":
    main()
