"""The policy of a wallet is a file that people write: what it says counts, and what cannot be is named."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypercluster.market.ledger import Ledger, Outcome, RequestRow
from hypercluster.market.money.budget import Period
from hypercluster.market.money.units import HCT, UINT96_MAX
from hypercluster.node.client.limits import HomeLimits
from hypercluster.node.home.policy import BadPolicy, WalletPolicy, load_policy, policy_file, save_policy

limits = st.none() | st.integers(0, UINT96_MAX)


@given(
    limits, limits, limits, limits, st.sampled_from(Period), st.integers(0, 10**19), st.integers(0, 10**19)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_what_is_saved_is_loaded_to_the_wei(
    tmp_path: Path,
    request_: int | None,
    day: int | None,
    total: int | None,
    key: int | None,
    period: Period,
    filled: int,
    below: int,
) -> None:
    policy = WalletPolicy(
        per_request_wei=request_,
        per_day_wei=day,
        total_wei=total,
        per_key_wei=key,
        per_key_period=period,
        float_wei=max(filled, below),
        top_up_below_wei=min(filled, below),
    )
    save_policy(tmp_path, policy)
    assert load_policy(tmp_path) == policy


def test_without_a_file_there_are_limits_all_the_same(tmp_path: Path) -> None:
    policy = load_policy(tmp_path / "nowhere")
    assert policy == WalletPolicy()
    assert None not in (policy.per_request_wei, policy.per_day_wei, policy.per_key_wei)
    policy_file(tmp_path).write_text("")
    assert load_policy(tmp_path) == policy, "what is left out is no wish for no limit"


def test_comments_and_order_stay(tmp_path: Path) -> None:
    text = '# mine\n[channels]\nfloat = "0.5" # a lot\n\n[limits]\n# none of your business\nper_day = "7"\n'
    policy_file(tmp_path).write_text(text)
    found = load_policy(tmp_path)
    assert (found.float_wei, found.per_day_wei) == (HCT // 2, 7 * HCT)
    save_policy(tmp_path, WalletPolicy(float_wei=HCT // 4, per_day_wei=None))
    after = policy_file(tmp_path).read_text()
    for line in ("# mine", 'float = "0.25" # a lot', "# none of your business", 'per_day = "none"'):
        assert line in after
    assert after.index("[channels]") < after.index("[limits]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[limits]\nper_day = ""', "per_day.*not an amount"),
        ('[limits]\nper_day = "-1"', "per_day.*not an amount"),
        ('[limits]\nper_day = "1e9"', "per_day.*not an amount"),
        ("[limits]\nper_day = 0.5", "per_day.*in quotes"),
        ("[limits]\nper_day = true", "per_day.*not an amount|in quotes"),
        ('[limits]\nper_day = "unlimited"', "per_day.*not an amount"),
        ('[limits]\nper_hour = "1"', "'per_hour' in \\[limits\\]"),
        ('[limit]\nper_day = "1"', "'per_day' in \\[limit\\]"),
        ('per_day = "1"', "'per_day' outside"),
        ('[keys]\nperiod = "year"', "'year' is not one of day, week, month, total"),
        ('[channels]\nfloat = "none"', "float.*needs an amount"),
        ('[channels]\nfloat = "1"\ntop_up_below = "2"', "filled up below 2 HCT"),
        ("[limits\n", "is no TOML"),
        ("\xff\xfe", "policy.toml"),
    ],
)
def test_what_cannot_be_is_named_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    policy_file(tmp_path).write_bytes(text.encode("latin-1"))
    with pytest.raises(BadPolicy, match=said) as refusal:
        load_policy(tmp_path)
    assert str(refusal.value).endswith(".")
    before = policy_file(tmp_path).read_bytes()
    if "TOML" in said or text == "\xff\xfe":
        with pytest.raises(BadPolicy):
            save_policy(tmp_path, WalletPolicy())
        assert policy_file(tmp_path).read_bytes() == before


def test_whole_numbers_may_stand_without_quotes(tmp_path: Path) -> None:
    policy_file(tmp_path).write_text("[limits]\nper_day = 3\n")
    assert load_policy(tmp_path).per_day_wei == 3 * HCT


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadPolicy, match="cannot be"):
        save_policy(tmp_path / "file", WalletPolicy())


def test_a_running_wallet_takes_changes_up_and_keeps_what_was_spent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime(2026, 3, 2, 10, tzinfo=UTC)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for name, ended, cost in (("old", datetime(2026, 3, 1, tzinfo=UTC), 5), ("new", now, 3)):
            ledger.requests.add(RequestRow(request_id=name, endpoint="cli", model_id="m"))
            ledger.requests.finish(name, Outcome.STOP, cost=cost, ended=ended)
        save_policy(tmp_path, WalletPolicy(per_request_wei=1, per_day_wei=10, total_wei=20))
        wallet = HomeLimits(tmp_path, ledger, clock=lambda: now)
        assert [each.left_wei for each in wallet.budgets()] == [1, 7, 12]
        save_policy(tmp_path, WalletPolicy(per_request_wei=2, per_day_wei=None, total_wei=8))
        assert [each.left_wei for each in wallet.budgets()] == [2, None, 0]
        policy_file(tmp_path).write_text("[limits]\nper_day = '?'\n")
        os.utime(policy_file(tmp_path), (1, 1))
        with caplog.at_level(logging.WARNING):
            assert [each.left_wei for each in wallet.budgets()] == [2, None, 0]
            assert [each.left_wei for each in wallet.budgets()] == [2, None, 0]
        assert len(caplog.records) == 1
        policy_file(tmp_path).unlink()
        assert wallet.budgets()[0].limit_wei == WalletPolicy().per_request_wei
        policy_file(tmp_path).write_text("[nonsense]\na = 1\n")
        with pytest.raises(BadPolicy):
            HomeLimits(tmp_path, ledger)
