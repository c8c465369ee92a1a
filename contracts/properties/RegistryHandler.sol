// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Market} from "./Market.sol";

/// @title Operators, node keys and a judge who call StakingRegistry in any order, beside a model of what must come of it
/// @dev After each call every account is compared with the model: a difference reverts, and the run fails.
contract RegistryHandler is Market {
    uint256 private constant OPERATORS = 4;
    uint256 private constant KEYS = 10;
    uint256 private constant REPORTERS = 3;
    address private constant JUDGE = address(0x1DEA);

    struct Account {
        uint256 active;
        uint256 thawing;
        uint256 thawEnd;
    }

    struct Due {
        uint256 amount;
        uint256 since;
    }

    address[OPERATORS] private _operators;
    address[KEYS] private _keys;
    address[REPORTERS] private _reporters;
    Account[OPERATORS] private _accounts;
    /// @dev Number of the operator that answers for a key, from 1, and the key's share.
    uint256[KEYS] private _answers;
    uint256[KEYS] private _shares;
    Due[][REPORTERS] private _dues;
    uint256[REPORTERS] private _claimed;
    uint256 private _held;
    uint256 private _supply;

    constructor() Market(JUDGE) {
        for (uint256 i; i < OPERATORS; ++i) _operators[i] = _person(1e6 * uint256(HCT));
        for (uint256 i; i < KEYS; ++i) _keys[i] = _person(0);
        for (uint256 i; i < REPORTERS; ++i) _reporters[i] = _person(0);
        _supply = token.totalSupply();
    }

    modifier checked() {
        _;
        _compare();
    }

    // ------------------------------------------------------------------ actions

    function pass(uint32 duration, bool long) external checked {
        _pass(duration % (long ? 30 days : 2 days));
    }

    function stake(uint8 who, uint96 amount) external checked {
        Account storage a = _accounts[who % OPERATORS];
        amount %= 500 * HCT;
        vm.prank(_operators[who % OPERATORS]);
        try registry.stake(amount) {
            require(amount != 0, "staked nothing");
            a.active += amount;
            _held += amount;
        } catch {
            require(amount == 0, "a stake was refused");
        }
    }

    function unstake(uint8 who, uint96 amount) external checked {
        Account storage a = _accounts[who % OPERATORS];
        amount %= 400 * HCT;
        bool due = amount != 0 && amount <= a.active;
        vm.prank(_operators[who % OPERATORS]);
        try registry.unstake(amount) {
            require(due, "unstaked what is not there");
            (a.active, a.thawing, a.thawEnd) = (a.active - amount, a.thawing + amount, time + UNBONDING);
        } catch {
            require(!due, "an unstake was refused");
        }
    }

    function cancelUnstake(uint8 who) external checked {
        Account storage a = _accounts[who % OPERATORS];
        vm.prank(_operators[who % OPERATORS]);
        try registry.cancelUnstake() {
            require(a.thawing != 0, "nothing was thawing");
            (a.active, a.thawing, a.thawEnd) = (a.active + a.thawing, 0, 0);
        } catch {
            require(a.thawing == 0, "cancelling was refused");
        }
    }

    function withdraw(uint8 who) external checked {
        Account storage a = _accounts[who % OPERATORS];
        bool due = a.thawing != 0 && time >= a.thawEnd;
        uint256 before = token.balanceOf(_operators[who % OPERATORS]);
        vm.prank(_operators[who % OPERATORS]);
        try registry.withdraw() {
            require(due, "withdrawn before it thawed");
            require(token.balanceOf(_operators[who % OPERATORS]) - before == a.thawing, "another amount was paid");
            _held -= a.thawing;
            (a.thawing, a.thawEnd) = (0, 0);
        } catch {
            require(!due, "a withdrawal was refused");
        }
    }

    function authorize(uint8 who, uint8 key, uint96 share, uint8 forgery) external checked {
        (uint256 o, uint256 k) = (who % OPERATORS, key % KEYS);
        share %= 150 * HCT;
        address named = forgery % 8 == 1 ? _operators[(o + 1) % OPERATORS] : _operators[o];
        address signer = forgery % 8 == 2 ? _keys[(k + 1) % KEYS] : _keys[k];
        uint256 deadline = forgery % 8 == 3 ? time - 1 : time;
        bytes32 digest = registry.authorizeDigest(named, _keys[k], deadline);
        (bytes32 r, bytes32 vs) = _sign(signer, digest);
        bool due = (forgery % 8 == 0 || forgery % 8 > 3) && share != 0 && _shares[k] == 0
            && (_answers[k] == 0 || _answers[k] == o + 1) && _committed(o) + share <= _accounts[o].active;
        vm.prank(_operators[o]);
        try registry.authorize(_keys[k], share, deadline, abi.encodePacked(r, vs)) {
            require(due, "a key was authorised that may not be");
            (_answers[k], _shares[k]) = (o + 1, share);
        } catch {
            require(!due, "authorising was refused");
        }
    }

    function reshare(uint8 who, uint8 key, uint96 share) external checked {
        (uint256 o, uint256 k) = (who % OPERATORS, key % KEYS);
        if (who < 192 && _answers[k] != 0) o = _answers[k] - 1;
        share %= 150 * HCT;
        bool due = share != 0 && _answers[k] == o + 1 && _shares[k] != 0
            && (share <= _shares[k] || _committed(o) - _shares[k] + share <= _accounts[o].active);
        vm.prank(_operators[o]);
        try registry.reshare(_keys[k], share) {
            require(due, "a share was changed that may not be");
            _shares[k] = share;
        } catch {
            require(!due, "changing a share was refused");
        }
    }

    function revoke(uint8 who, uint8 key, bool itself) external checked {
        (uint256 o, uint256 k) = (who % OPERATORS, key % KEYS);
        bool due = _shares[k] != 0 && (itself || _answers[k] == o + 1);
        vm.prank(itself ? _keys[k] : _operators[o]);
        try registry.revoke(_keys[k]) {
            require(due, "a key was revoked by another");
            _shares[k] = 0;
        } catch {
            require(!due, "revoking was refused");
        }
    }

    function slash(uint8 who, uint96 requested, uint8 reporter, uint96 reward, bool stranger) external checked {
        Account storage a = _accounts[who % OPERATORS];
        (requested, reward) = (requested % (300 * HCT), reward % (300 * HCT));
        bool nobody = reporter % 8 == 7;
        uint256 to = reporter % REPORTERS;
        vm.prank(stranger ? _reporters[to] : JUDGE);
        try registry.slash(_operators[who % OPERATORS], requested, nobody ? address(0) : _reporters[to], reward) returns (
            uint96 taken
        ) {
            require(!stranger, "slashed by a stranger");
            require(taken == _min(requested, a.active + a.thawing), "took something else than there was");
            uint256 active = _min(taken, a.active);
            (a.active, a.thawing) = (a.active - active, a.thawing - (taken - active));
            uint256 rewarded = nobody ? 0 : _min(reward, taken / 2);
            if (rewarded != 0) _dues[to].push(Due(rewarded, time));
            _held -= taken - rewarded;
            _supply -= taken - rewarded;
        } catch {
            require(stranger, "a slash was refused");
        }
    }

    function claimRewards(uint8 who) external checked {
        uint256 r = who % REPORTERS;
        uint256 before = token.balanceOf(_reporters[r]);
        vm.prank(_reporters[r]);
        try registry.claimRewards() {
            uint256 paid = token.balanceOf(_reporters[r]) - before;
            require(paid != 0, "claimed nothing");
            _claimed[r] += paid;
            _held -= paid;
        } catch {
            (uint96 claimable,,) = registry.rewards(_reporters[r]);
            require(claimable == 0, "a claim was refused");
        }
    }

    // ------------------------------------------------------------------ model

    function _compare() private view {
        require(token.balanceOf(address(registry)) == _held, "the registry holds something else than the model");
        require(token.totalSupply() == _supply, "something else was burned");
        uint256 owed;
        for (uint256 i; i < OPERATORS; ++i) {
            (uint96 active, uint96 thawing, uint40 thawEnd) = registry.stakes(_operators[i]);
            Account storage a = _accounts[i];
            require(active == a.active && thawing == a.thawing && thawEnd == a.thawEnd, "a stake differs");
            require(registry.committed(_operators[i]) == _committed(i), "what is committed differs");
            require(_backing(i) <= active, "more stands behind keys than is staked");
            owed += active + thawing;
        }
        for (uint256 i; i < REPORTERS; ++i) owed += _compareDues(i);
        require(owed == _held, "the registry owes something else than it holds");
    }

    /// @dev Whatever was added waits a whole delay, and two at most.
    function _compareDues(uint256 r) private view returns (uint256 owed) {
        (uint96 claimable, uint96 waiting,) = registry.rewards(_reporters[r]);
        (uint256 all, uint256 once, uint256 twice) = (0, 0, 0);
        for (uint256 i; i < _dues[r].length; ++i) {
            Due storage due = _dues[r][i];
            all += due.amount;
            if (due.since + UNBONDING <= time) once += due.amount;
            if (due.since + 2 * UNBONDING <= time) twice += due.amount;
        }
        owed = uint256(claimable) + waiting;
        require(owed + _claimed[r] == all, "rewards differ");
        require(claimable + _claimed[r] <= once, "a reward ripened too early");
        require(claimable + _claimed[r] >= twice, "a reward was held up");
    }

    function _committed(uint256 o) private view returns (uint256 sum) {
        for (uint256 k; k < KEYS; ++k) if (_answers[k] == o + 1) sum += _shares[k];
    }

    function _backing(uint256 o) private view returns (uint256 sum) {
        for (uint256 k; k < KEYS; ++k) {
            if (_answers[k] != o + 1) continue;
            uint96 backing = registry.backingOf(_keys[k]);
            require(backing <= _shares[k] && registry.shareOf(_keys[k]) == _shares[k], "a share differs");
            bool eligible = _shares[k] >= terms.fault && uint256(backing) * 4 >= uint256(terms.fault) * 3;
            require(registry.isEligible(_keys[k]) == eligible, "another key is eligible");
            sum += backing;
        }
    }

    function _min(uint256 a, uint256 b) private pure returns (uint256) {
        return a < b ? a : b;
    }
}
