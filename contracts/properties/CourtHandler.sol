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
        _block();
    }

    modifier checked() {
        _;
        _compare();
    }

    // ------------------------------------------------------------------ time and stake

    function pass(uint32 duration, uint8 far) external checked {
        _pass(duration % (far % 16 == 0 ? 15 days : 2 hours));
        _block();
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
        else try registry.unstake(amount % (150 * HCT)) {} catch {}
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

    function list(uint8 who, bool on) external checked {
        vm.startPrank(_nodes[who % NODES]);
        if (on) try cases.enlist() {} catch {}
        else try cases.delist(_nodes[who % NODES]) {} catch {}
        vm.stopPrank();
    }

    // ------------------------------------------------------------------ proofs

    function equivocate(uint8 who, uint8 old, uint8 twist) external checked {
        Slot memory a = _slot(who, old, 0);
        Slot memory b = Slot(a.node, a.stage, a.seq, twist % 3, a.issued);
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
        bool due = !_convicted[slot.node][slot.stage] && _punishable(slot);
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
        _vote(trial, ballot, unanimous);
        _reveal(trial, 15, false);
        _resolve(place);
    }

    function resolve(uint8 which) external checked {
        if (_open.length != 0) _resolve(which % _open.length);
    }

    function _draw(Trial storage trial) private {
        _block();
        try cases.draw(trial.id) returns (address[] memory members) {
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
            vm.prank(member);
            try cases.commit(trial.id, seat, keccak256(abi.encode(trial.id, member, choice, bytes32(0), SALT))) {
                require(trial.votes[seat] == 0, "committed twice");
                trial.votes[seat] = choice;
            } catch {}
        }
    }

    function _reveal(Trial storage trial, uint8 skipped, bool lie) private {
        for (uint8 seat; seat < trial.members.length; ++seat) {
            if (skipped % 16 == seat) continue;
            uint8 choice = lie ? trial.votes[seat] % 4 + 1 : trial.votes[seat];
            vm.prank(trial.members[seat]);
            try cases.reveal(trial.id, seat, choice, bytes32(0), SALT) {
                require(!lie && choice != 0 && trial.revealed >> seat & 1 == 0, "revealed another vote, or twice");
                trial.revealed |= 1 << seat;
            } catch {}
        }
    }

    function _resolve(uint256 place) private {
        Trial storage trial = _trials[_open[place]];
        IDisputeCases.Case memory c = cases.cases(trial.id);
        bool due = _due(c);
        uint256 guilty = _allow(trial);
        uint256 bond = token.balanceOf(trial.accuser);
        try cases.resolve(trial.id, trial.members) {
            require(due, "resolved while votes were awaited");
            c = cases.cases(trial.id);
            bool convicted = trial.members.length != 0 && guilty * 3 >= uint256(terms.seats) * 2;
            require((c.outcome == IDisputeCases.Outcome.Guilty) == convicted, "found guilty by no two thirds, or not by them");
            if (convicted) {
                require(token.balanceOf(trial.accuser) == bond + terms.bond, "an accuser who was right lost its bond");
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

    /// @dev What resolving may take, and the guilty votes.
    function _allow(Trial storage trial) private returns (uint256 guilty) {
        for (uint256 i; i < trial.members.length; ++i) {
            if (trial.revealed >> i & 1 == 0) _mayLose[registry.answersFor(trial.members[i])] += terms.silence;
            else if (trial.votes[i] == uint8(IDisputeCases.Vote.Guilty)) ++guilty;
        }
        if (guilty * 3 >= uint256(terms.seats) * 2) _mayLose[registry.answersFor(trial.slot.node)] += terms.fault;
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
