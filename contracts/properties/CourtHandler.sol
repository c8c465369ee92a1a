// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputeCases} from "../src/interfaces/IDisputeCases.sol";
import {IDisputeDemands} from "../src/interfaces/IDisputeDemands.sol";
import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {Market} from "./Market.sol";
import {SignedStatements} from "./SignedStatements.sol";

/// @title Providers, verifiers and accusers who call the contracts of disputes in any order
/// @dev After each call: every contract holds what it owes, no token came from nowhere, and nobody lost more stake than
/// the call may take from them.
contract CourtHandler is SignedStatements {
    uint256 private constant PROVIDERS = 4;
    uint256 private constant NODES = 13;
    uint256 private constant PEOPLE = 3;
    bytes32 private constant SALT = "salt";
    bytes32 private constant FINGERPRINT = "fingerprint";

    /// @dev An open case. A vote is there before it is revealed, a member before it is drawn is not.
    struct Trial {
        uint256 id;
        Slot slot;
        address accuser;
        address[] members;
        uint8[15] votes;
        uint256 revealed;
    }

    address[NODES] private _nodes;
    address[NODES] private _operators;
    address[PEOPLE] private _people;
    Trial[] private _trials;
    uint256[] private _open;
    Slot[] private _slots;
    mapping(address operator => uint256) private _stake;
    mapping(address operator => uint256) private _mayLose;
    mapping(address node => mapping(uint256 stage => bool)) private _convicted;
    uint256 private _supply;
    uint256 private _burned;
    uint256 public convictions;
    uint256 public resolutions;

    constructor() Market(address(0)) {
        for (uint256 i; i < NODES; ++i) {
            (_nodes[i], _operators[i]) = (_person(0), _person(1e5 * uint256(HCT)));
            uint96 amount = (i < PROVIDERS ? 250 : 150) * HCT;
            vm.prank(_operators[i]);
            registry.stake(amount);
            _authorize(_operators[i], _nodes[i], amount);
            _stake[_operators[i]] = amount;
            if (i < PROVIDERS) continue;
            vm.prank(_nodes[i]);
            cases.enlist();
        }
        for (uint256 i; i < PEOPLE; ++i) _people[i] = _person(1e6 * uint256(HCT));
        _supply = token.totalSupply();
        _blocks(1);
    }

    modifier checked() {
        _;
        _compare();
    }

    // ------------------------------------------------------------------ time and stake

    function pass(uint32 duration, uint8 far) external checked {
        _pass(duration % (far % 16 == 0 ? 15 days : 2 hours));
        _blocks(1);
    }

    function stake(uint8 who, uint96 amount) external checked {
        address operator = _operators[who % NODES];
        amount = amount % (200 * HCT) + 1;
        vm.prank(operator);
        registry.stake(amount);
        _stake[operator] += amount;
    }

    function unstake(uint8 who, uint96 amount, bool cancel) external checked {
        vm.startPrank(_operators[who % NODES]);
        if (cancel) try registry.cancelUnstake() {} catch {}
        else try registry.unstake(amount % (60 * HCT)) {} catch {}
        vm.stopPrank();
    }

    function withdraw(uint8 who) external checked {
        address operator = _operators[who % NODES];
        (, uint96 thawing, uint40 thawEnd) = registry.stakes(operator);
        bool due = thawing != 0 && time >= thawEnd;
        vm.prank(operator);
        try registry.withdraw() {
            require(due, "withdrawn before it thawed");
            _mayLose[operator] = thawing;
        } catch {
            require(!due, "a withdrawal was refused");
        }
    }

    function claim(uint8 who) external checked {
        address operator = who % 4 == 0 ? _people[who % PEOPLE] : _operators[who % NODES];
        vm.startPrank(operator);
        try registry.claimRewards() {} catch {}
        try cases.claimCredits() {} catch {}
        vm.stopPrank();
    }

    function list(uint8 who, uint8 off) external checked {
        vm.startPrank(_nodes[who % NODES]);
        if (off % 8 != 0) try cases.enlist() {} catch {}
        else try cases.delist(_nodes[who % NODES]) {} catch {}
        vm.stopPrank();
    }

    // ------------------------------------------------------------------ proofs

    function equivocate(uint8 who, uint8 old, uint8 twist) external checked {
        Slot memory a = _slot(who, old, 0);
        Slot memory b = Slot(a.node, a.stage, a.seq, twist % 4, a.issued);
        a.twist = 0;
        address operator = registry.answersFor(a.node);
        uint256 before = _stake[operator];
        bytes32 stageHash = proofs.stageHashOf(_stage(a.stage));
        vm.startPrank(_people[twist % PEOPLE]);
        try proofs.proveEquivocation(stageHash, _receipt(a), _signReceipt(a), _receipt(b), _signReceipt(b)) {
            require(b.twist != 0, "one receipt is no equivocation");
            require(before != 0, "a proof was burnt on nothing");
            _mayLose[operator] = terms.fault;
        } catch {
            bool known = proofs.isEquivocator(a.node, stageHash, a.seq);
            require(b.twist == 0 || before == 0 || known, "a proof was refused");
        }
        vm.stopPrank();
    }

    function contradict(uint8 who, uint8 input, uint8 findings) external checked {
        address node = _nodes[who % NODES];
        address operator = registry.answersFor(node);
        IDisputes.Verdict memory a = _verdict(input, ROW, findings % 4 == 1 ? 2 : 1);
        IDisputes.Verdict memory b = _verdict(input, findings % 4 == 3 ? ROW : OTHER_ROW, findings % 4 == 2 ? 3 : 1);
        bool due = findings % 4 == 0 && _stake[operator] != 0;
        IDisputes.Signature memory signature = _signVerdict(node, a);
        IDisputes.Signature memory other = _signVerdict(node, b);
        bytes32[] memory none = new bytes32[](0);
        vm.prank(_people[findings % PEOPLE]);
        try proofs.proveContradiction(a, signature, b, other, 0, ROW, none, OTHER_ROW, none) {
            require(due, "no contradiction was punished");
            _mayLose[operator] = terms.fault;
        } catch {
            require(!due || proofs.isContradictor(node, a.inRoot), "a contradiction was refused");
        }
    }

    // ------------------------------------------------------------------ cases

    function openCase(uint8 who, uint8 accuser, uint8 old) external checked {
        Slot memory slot = _slot(who, old, old % 3);
        bool due = !_convicted[slot.node][slot.stage] && _stake[registry.answersFor(slot.node)] != 0;
        vm.startPrank(_people[accuser % PEOPLE]);
        try cases.openCase(_stage(slot.stage), _receipt(slot), _signReceipt(slot)) returns (uint256 id) {
            require(due, "a case that could not be punished");
            Trial storage trial = _trials.push();
            (trial.id, trial.slot, trial.accuser) = (id, slot, _people[accuser % PEOPLE]);
            _open.push(_trials.length - 1);
        } catch {}
        vm.stopPrank();
    }

    function draw(uint8 which) external checked {
        if (_open.length != 0) _draw(_trials[_open[which % _open.length]]);
    }

    function vote(uint8 which, uint64 ballot, uint8 unanimous) external checked {
        if (_open.length != 0) _vote(_trials[_open[which % _open.length]], ballot, unanimous);
    }

    function reveal(uint8 which, uint8 skipped, bool lie) external checked {
        if (_open.length != 0) _reveal(_trials[_open[which % _open.length]], skipped, lie);
    }

    /// @notice A case without incidents, all at once; left to itself the other actions end few.
    function hear(uint8 which, uint64 ballot, uint8 unanimous) external checked {
        if (_open.length == 0) return;
        uint256 place = which % _open.length;
        Trial storage trial = _trials[_open[place]];
        _draw(trial);
        _vote(trial, ballot, unanimous % 4 == 0 ? 2 : unanimous);
        _reveal(trial, 15, false);
        _resolve(place);
    }

    function resolve(uint8 which) external checked {
        if (_open.length != 0) _resolve(which % _open.length);
    }

    function _draw(Trial storage trial) private {
        uint256 drawBlock = cases.cases(trial.id).drawBlock;
        _blocks(drawBlock < blockNumber ? 1 : drawBlock + 1 - blockNumber);
        bytes memory header = blockNumber - drawBlock > 256 ? bytes("") : _header(drawBlock);
        try cases.draw(trial.id, header) returns (address[] memory members) {
            if (members.length == 0) return;
            require(members.length == terms.seats, "a committee of another size");
            for (uint256 i; i < members.length; ++i) {
                require(cases.isEnlisted(members[i]) && registry.isEligible(members[i]), "drew who may not judge");
                require(members[i] != trial.slot.node && members[i] != trial.accuser, "drew a party");
                for (uint256 j; j < i; ++j) require(members[i] != members[j], "drew somebody twice");
            }
            trial.members = members;
        } catch {}
    }

    /// @dev `ballot` says who votes what: one digit to the base of five for each seat, zero for no vote.
    function _vote(Trial storage trial, uint64 ballot, uint8 unanimous) private {
        for (uint8 seat; seat < trial.members.length; ++seat) {
            uint8 choice = unanimous % 2 == 0 ? 1 + unanimous / 2 % 4 : uint8(ballot % 5);
            ballot /= 5;
            if (choice == 0) continue;
            address member = trial.members[seat];
            IDisputeCases.Case memory c = cases.cases(trial.id);
            bool due = c.phase == IDisputeCases.Phase.Committing && time <= c.deadline && trial.votes[seat] == 0;
            vm.prank(member);
            try cases.commit(trial.id, seat, keccak256(abi.encode(trial.id, member, choice, FINGERPRINT, SALT))) {
                require(due, "committed twice, or at the wrong time");
                trial.votes[seat] = choice;
            } catch {
                require(!due, "a commitment was refused");
            }
        }
    }

    function _reveal(Trial storage trial, uint8 skipped, bool lie) private {
        for (uint8 seat; seat < trial.members.length; ++seat) {
            if (skipped % 16 == seat) continue;
            uint8 choice = lie ? trial.votes[seat] % 4 + 1 : trial.votes[seat];
            bool due = !lie && choice != 0 && trial.revealed >> seat & 1 == 0 && _revealing(trial.id);
            vm.prank(trial.members[seat]);
            try cases.reveal(trial.id, seat, choice, FINGERPRINT, SALT) {
                require(due, "revealed another vote, twice, or at the wrong time");
                trial.revealed |= 1 << seat;
            } catch {
                require(!due, "a vote was refused");
            }
        }
    }

    function _resolve(uint256 place) private {
        Trial storage trial = _trials[_open[place]];
        (IDisputeCases.Outcome outcome, uint256 bond) = _expected(trial);
        bool due = _due(cases.cases(trial.id)) && (outcome != IDisputeCases.Outcome.Guilty || !_earlier(trial));
        uint256 before = token.balanceOf(trial.accuser);
        _allow(trial, outcome);
        try cases.resolve(trial.id, trial.members) {
            require(due, "resolved while votes or earlier cases were awaited");
            require(cases.cases(trial.id).outcome == outcome, "another outcome than two thirds of the votes");
            require(token.balanceOf(trial.accuser) - before == bond, "another part of the bond came back");
            if (outcome == IDisputeCases.Outcome.Guilty) {
                _convicted[trial.slot.node][trial.slot.stage] = true;
                ++convictions;
            }
            (_open[place], resolutions) = (_open[_open.length - 1], resolutions + 1);
            _open.pop();
        } catch {
            require(!due, "a case that was over stayed open");
        }
    }

    // ------------------------------------------------------------------ demands

    uint256[] private _asked;

    function demand(uint8 who, uint8 demander, uint8 old, bool output) external checked {
        Slot memory slot = _slot(who, old, 0);
        vm.startPrank(_people[demander % PEOPLE]);
        try demands.demand(_stage(slot.stage), _receipt(slot), _signReceipt(slot), output, 0) returns (uint256 id) {
            require(_punishable(slot), "a demand that could not be punished");
            _asked.push(id);
        } catch {}
        vm.stopPrank();
    }

    function answer(uint8 which, bool lapse) external checked {
        if (_asked.length == 0) return;
        uint256 place = which % _asked.length;
        IDisputeDemands.Demand memory d = demands.demands(_asked[place]);
        bool due = lapse ? time > d.deadline : time <= d.deadline;
        address operator = registry.answersFor(d.node);
        bool done;
        if (lapse) {
            try demands.lapse(_asked[place]) {
                done = true;
                _mayLose[operator] = terms.fault;
            } catch {}
        } else {
            try demands.serve(_asked[place], ROW, new bytes32[](0)) {
                done = true;
            } catch {}
        }
        require(done == due, "a demand ended at the wrong time, or did not end");
        if (done) {
            _asked[place] = _asked[_asked.length - 1];
            _asked.pop();
        }
    }

    // ------------------------------------------------------------------ model

    function _compare() private {
        uint256 supply = token.totalSupply();
        require(supply <= _supply, "tokens came from nowhere");
        _supply = supply;
        uint256 all = token.balanceOf(address(registry)) + token.balanceOf(address(cases))
            + token.balanceOf(address(demands)) + token.balanceOf(address(this));
        (uint256 owed, uint256 credits) = (0, 0);
        for (uint256 i; i < NODES + PEOPLE; ++i) {
            address who = i < NODES ? _operators[i] : _people[i - NODES];
            (uint256 staked, uint256 rewarded, uint256 credited) = _account(who);
            require(staked + _mayLose[who] >= _stake[who], "stake is gone that nobody may take");
            (_stake[who], _mayLose[who]) = (staked, 0);
            (owed, credits) = (owed + staked + rewarded, credits + credited);
            all += token.balanceOf(who);
        }
        require(token.balanceOf(address(registry)) == owed, "the registry holds something else than it owes");
        require(token.balanceOf(address(cases)) == _open.length * terms.bond + credits, "bonds and credits differ");
        require(token.balanceOf(address(demands)) == _asked.length * terms.demandBond, "bonds of demands differ");
        require(all == supply, "tokens are where nobody can have them");
    }

    function _account(address who) private view returns (uint256 staked, uint256 rewarded, uint256 credited) {
        (uint96 active, uint96 thawing,) = registry.stakes(who);
        (uint96 claimable, uint96 waiting,) = registry.rewards(who);
        (uint96 ready, uint96 later,) = cases.credits(who);
        return (uint256(active) + thawing, uint256(claimable) + waiting, uint256(ready) + later);
    }

    /// @dev What the votes that were revealed come to, and how much of the bond then returns.
    function _expected(Trial storage trial) private view returns (IDisputeCases.Outcome outcome, uint256 bond) {
        if (trial.members.length == 0) return (IDisputeCases.Outcome.Void, terms.bond);
        uint256[5] memory count;
        for (uint256 i; i < trial.members.length; ++i) if (trial.revealed >> i & 1 != 0) ++count[trial.votes[i]];
        uint256 needed = (uint256(terms.seats) * 2 + 2) / 3;
        if (count[2] >= needed) return (IDisputeCases.Outcome.Guilty, terms.bond);
        if (count[1] >= needed) return (IDisputeCases.Outcome.Innocent, 0);
        if (count[4] >= needed) return (IDisputeCases.Outcome.Unserved, 0);
        return (IDisputeCases.Outcome.Inconclusive, terms.bond - terms.bond * count[4] / terms.seats);
    }

    /// @dev Whether a case about the same stage was opened earlier and is open.
    function _earlier(Trial storage trial) private view returns (bool) {
        for (uint256 i; i < _open.length; ++i) {
            Trial storage other = _trials[_open[i]];
            bool same = other.slot.node == trial.slot.node && other.slot.stage == trial.slot.stage;
            if (same && other.id < trial.id) return true;
        }
        return false;
    }

    /// @dev What resolving may take: a fault of whom it convicts, and a fine of who was silent or against the majority.
    function _allow(Trial storage trial, IDisputeCases.Outcome outcome) private {
        bool guilty = outcome == IDisputeCases.Outcome.Guilty;
        uint8 against = guilty ? 1 : outcome == IDisputeCases.Outcome.Innocent ? 2 : 255;
        for (uint256 i; i < trial.members.length; ++i) {
            bool silent = trial.revealed >> i & 1 == 0;
            if (silent || trial.votes[i] == against) {
                _mayLose[registry.answersFor(trial.members[i])] += terms.silence;
            }
        }
        if (guilty) _mayLose[registry.answersFor(trial.slot.node)] += terms.fault;
    }

    function _revealing(uint256 id) private view returns (bool) {
        IDisputeCases.Case memory c = cases.cases(id);
        if (c.phase == IDisputeCases.Phase.Revealing) return time <= c.deadline;
        bool over = c.phase == IDisputeCases.Phase.Committing && time > c.deadline;
        return over && time <= uint256(c.deadline) + terms.revealWindow;
    }

    function _due(IDisputeCases.Case memory c) private view returns (bool) {
        bool over = time > c.deadline;
        if (c.phase == IDisputeCases.Phase.Drawing) return over;
        if (c.phase == IDisputeCases.Phase.Revealing) return over || c.committed == c.revealed;
        return over && (c.committed == c.revealed || time > uint256(c.deadline) + terms.revealWindow);
    }

    function _punishable(Slot memory slot) private view returns (bool) {
        return _stake[registry.answersFor(slot.node)] != 0 && time <= slot.issued + terms.evidenceWindow;
    }

    /// @dev A receipt that was seen before, or one of a new stage.
    function _slot(uint8 who, uint8 old, uint32 seq) private returns (Slot memory slot) {
        if (old % 2 == 0 && _slots.length != 0) {
            uint256 newest = _slots.length > 16 ? _slots.length - 16 : 0;
            return _slots[newest + old / 2 % (_slots.length - newest)];
        }
        slot = Slot(_nodes[who % PROVIDERS], _slots.length, seq, 0, uint40(time));
        _slots.push(slot);
    }
}
