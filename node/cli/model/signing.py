"""`hc-model sign`: a signature over the models that a network profile names."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from hypercluster.market.money.units import counted
from hypercluster.node.cli.console import Json, password, show
from hypercluster.node.home.keys import Key, key_file, unlock
from hypercluster.node.home.settings import Settings


def sign(
    file: Annotated[
        Path,
        typer.Argument(
            help="A network profile, which is written anew.", metavar="PROFILE", show_default=False
        ),
    ],
    json_: Json = False,
) -> None:
    """Sign what the names of models in a network profile stand for, with the key of this home that holds money.

    Example: [bold]hc-model sign network.json[/]

    That is the wallet of a client, or else the operator key of a node. Whoever takes the profile from a URL remembers
    the first signer, and takes names from nobody else, nor an earlier list. Sign again after every change of models.
    """
    import coincurve

    from hypercluster.node.home.profile import NetworkProfile
    from hypercluster.node.home.profile_bytes import read

    settings = Settings(profile=None)
    raw = read(file)
    # the signature is replaced, whatever it was over
    profile = NetworkProfile.parse(raw, str(file), file.absolute().parent, signed=False)
    wallet = (
        key_file(settings.home, Key.WALLET).exists() or not key_file(settings.home, Key.OPERATOR).exists()
    )
    key = unlock(settings.home, Key.WALLET if wallet else Key.OPERATOR, password(settings))
    signed = profile.signed_with(coincurve.PrivateKey(bytes(key.key)), int(time.time())).signed
    assert signed is not None
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    part.write_text(json.dumps(json.loads(raw) | {"signed": signed.document()}, indent=2) + "\n")
    part.replace(file)
    told = {"signer": signed.signer, "issued": signed.issued, "models": len(profile.models)}
    show(
        told, lambda _: f"{counted(len(profile.models), 'model')} of {file} signed by {signed.signer}", json_
    )
