// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Disputes} from "./Disputes.sol";
import {HyperToken} from "./HyperToken.sol";
import {VerifierList} from "./VerifierList.sol";
import {IDisputeCases} from "./interfaces/IDisputeCases.sol";
import {IStakingRegistry} from "./interfaces/IStakingRegistry.sol";
import {Blocks} from "./libraries/Blocks.sol";
import {Burning} from "./libraries/Burning.sol";
import {Dues} from "./libraries/Dues.sol";
import {Statements} from "./libraries/Statements.sol";

/// @title DisputeCases
/// @notice Cases about the work of node keys, judged by committees of verifiers; see {IDisputeCases}.
contract DisputeCases is IDisputeCases, VerifierList {
    using SafeERC20 for HyperToken;
    using Burning for HyperToken;
    using Dues for mapping(address => Dues.Due);
    using Statements for Stage;
    using Statements for Receipt;

    /// @dev What is settled when a case is opened; two slots and two hashes. `places` is the length of the list then,
    /// `openedAt` the second modulo 2^24. What changes in here is the draw: the block whose randomness draws, and, of a draw
    /// that takes several calls, the number of the next place to look at and how many members were found.
    struct Accusation {
        address accuser;
        uint40 openedBlock;
        uint32 seq;
        uint24 openedAt;
        address node;
        uint16 places;
        uint40 drawBlock;
        uint32 probe;
        uint8 found;
        bytes32 stageHash;
        bytes32 receiptHash;
    }

    /// @dev The cases of one accuser about one receipt.
    struct Attempts {
        uint64 lastCase;
        uint8 made;
    }

    /// @dev What changes, in one slot. In the masks bit i stands for seat i. `earlier` and `later` are the neighbours among the
    /// open cases about the stage, in the order in which they were opened. Once it is closed, `deadline` is when it ended.
    struct Progress {
        uint40 deadline;
        Phase phase;
        Outcome outcome;
        uint16 committed;
        uint16 revealed;
        uint16 guilty;
        uint16 innocent;
        uint16 unserved;
        uint48 earlier;
        uint48 later;
    }

    /// @dev Cases that one accuser can make of one receipt.
    uint8 private constant TRIES = 3;
    /// @dev Part of a bond, in tenths, that is shared by all seats when all of them say that nothing was served.
    uint96 private constant IDLE_TENTHS = 1;

    uint96 private immutable silence;
    uint96 private immutable bond;
    uint96 private immutable demandBond;
    uint96 private immutable memberReward;
    uint16 private immutable rewardBps;
    uint16 private immutable memberBps;
    uint8 private immutable seats;
    uint40 private immutable drawWindow;
    uint40 private immutable commitWindow;
    uint40 private immutable revealWindow;
    uint40 private immutable serveWindow;
    uint40 private immutable unbonding;
    uint16 private immutable drawDelay;

    uint256 private _caseCount;
    mapping(uint256 caseId => Accusation) private _accusations;
    mapping(uint256 caseId => Progress) private _progress;
    mapping(uint256 caseId => bytes32) private _committees;
    /// @dev A seat holds its member's address, then the hash of its commitment, then nothing.
    mapping(uint256 caseId => bytes32[15]) private _seats;
    /// @dev The seed of a draw that takes several calls.
    mapping(uint256 caseId => bytes32) private _seeds;
    mapping(bytes32 receiptAndAccuser => Attempts) private _attempts;
    /// @dev The case in which a receipt was found innocent.
    mapping(bytes32 receipt => uint256 caseId) private _clearedIn;
    /// @dev The open case about a stage that was opened last.
    mapping(bytes32 stage => uint256 caseId) private _latest;

    /// @inheritdoc IDisputeCases
    mapping(address node => mapping(bytes32 stageHash => bool)) public isConvicted;

    mapping(address operator => Dues.Due) private _credits;

    /// @param registry_ StakingRegistry, whose token bonds are in too; it has to appoint this contract, and those of proofs and demands that are
    /// deployed beside it, as its slashers.
    /// @param p What faults cost and how long everything takes, in the contracts of proofs and demands too.
    constructor(IStakingRegistry registry_, Parameters memory p)
        Disputes(registry_.token(), registry_, address(this), p)
    {
        require(p.seats != 0 && p.seats <= 15, BadSeats(p.seats));
        // The registry burns at least half of what it takes.
        uint256 bps = uint256(p.rewardBps) + uint256(p.seats) * p.memberBps;
        require(bps <= 5000, RewardsTooHigh(bps));
        uint256 once = uint256(p.evidenceWindow) + p.drawWindow + p.commitWindow + p.revealWindow;
        uint256 needed = p.skew + Math.max(uint256(p.evidenceWindow) + p.serveWindow, TRIES * once);
        unbonding = registry.unbonding();
        require(unbonding >= needed, UnbondingTooShort(needed));
        uint96 minStake = registry.minStake();
        require(minStake >= p.fault, FaultTooHigh(minStake));

        silence = p.silence;
        bond = p.bond;
        demandBond = p.demandBond;
        rewardBps = p.rewardBps;
        memberBps = p.memberBps;
        memberReward = uint96(uint256(p.fault) * p.memberBps / 10_000);
        seats = p.seats;
        drawWindow = p.drawWindow;
        commitWindow = p.commitWindow;
        revealWindow = p.revealWindow;
        serveWindow = p.serveWindow;
        drawDelay = p.drawDelay;
    }

    // ------------------------------------------------------------------ cases

    /// @inheritdoc IDisputeCases
    function openCase(Stage calldata stage, Receipt calldata receipt, Signature calldata signature)
        public
        returns (uint256 caseId)
    {
        bytes32 stageHash = stage.hash();
        bytes32 receiptHash = receipt.hash(stageHash);
        address node = _signer(receiptHash, signature);
        uint40 since = _attempt(node, receiptHash);
        address operator = _accused(node, Math.max(receipt.issued, since));
        require(!isConvicted[node][stageHash], AlreadyConvicted());

        caseId = _caseCount;
        _accusations[caseId] = Accusation({
            accuser: msg.sender,
            openedBlock: uint40(block.number),
            seq: receipt.seq,
            openedAt: uint24(block.timestamp),
            node: node,
            places: uint16(verifierCount()),
            drawBlock: uint40(block.number) + drawDelay,
            probe: 0,
            found: 0,
            stageHash: stageHash,
            receiptHash: receiptHash
        });
        uint40 deadline = uint40(block.timestamp) + drawWindow;
        Progress memory p;
        (p.phase, p.deadline, p.earlier) = (Phase.Drawing, deadline, _follow(caseId, node, stageHash));
        _progress[caseId] = p;

        emit CaseOpened(
            caseId,
            msg.sender,
            node,
            operator,
            stageHash,
            receiptHash,
            receipt.seq,
            stage.modelId,
            stage.layerStart,
            stage.layerStop,
            deadline
        );
        token.safeTransferFrom(msg.sender, address(this), bond);
    }

    /// @inheritdoc IDisputeCases
    function openCaseWithPermit(
        Stage calldata stage,
        Receipt calldata receipt,
        Signature calldata signature,
        uint256 deadline,
        uint8 permitV,
        bytes32 permitR,
        bytes32 permitS
    ) external returns (uint256 caseId) {
        _permit(bond, deadline, permitV, permitR, permitS);
        return openCase(stage, receipt, signature);
    }

    /// @inheritdoc IDisputeCases
    function draw(uint256 caseId, bytes calldata header) external returns (address[] memory members) {
        Progress memory p = _progress[caseId];
        require(p.phase == Phase.Drawing && block.timestamp <= p.deadline, WrongPhase(p.phase, p.deadline));
        Accusation memory a = _accusations[caseId];
        require(block.number > a.drawBlock, TooEarly(a.drawBlock));
        bytes32 seed = a.probe == 0 ? _seed(caseId, a.drawBlock, header) : _seeds[caseId];
        if (seed == 0) {
            a.drawBlock = uint40(block.number) + drawDelay;
            _accusations[caseId].drawBlock = a.drawBlock;
            emit DrawGoesOn(caseId, 0, a.drawBlock);
            return members;
        }

        Draw memory d = Draw({
            seed: seed,
            probe: a.probe,
            places: a.places,
            openedBlock: a.openedBlock,
            openedAt: a.openedAt,
            parties: [a.accuser, registry.answersFor(a.accuser), a.node, registry.answersFor(a.node)]
        });
        members = new address[](seats);
        for (uint256 i; i < a.found; ++i) members[i] = address(uint160(uint256(_seats[caseId][i])));
        uint256 found = _sample(d, members, a.found);
        for (uint256 i = a.found; i < found; ++i) _seats[caseId][i] = bytes32(uint256(uint160(members[i])));

        if (found < seats) {
            if (a.probe == 0) _seeds[caseId] = seed;
            (_accusations[caseId].probe, _accusations[caseId].found) = (uint32(d.probe), uint8(found));
            emit DrawGoesOn(caseId, uint8(found), a.drawBlock);
            return new address[](0);
        }
        (p.phase, p.deadline) = (Phase.Committing, uint40(block.timestamp) + commitWindow);
        _progress[caseId] = p;
        _committees[caseId] = keccak256(abi.encode(members));

        emit CommitteeDrawn(caseId, members, p.deadline);
    }

    /// @inheritdoc IDisputeCases
    function commit(uint256 caseId, uint8 seat, bytes32 commitment) external {
        Progress memory p = _progress[caseId];
        require(p.phase == Phase.Committing && block.timestamp <= p.deadline, WrongPhase(p.phase, p.deadline));
        require(
            seat < seats && _seats[caseId][seat] == bytes32(uint256(uint160(msg.sender))), NotMember()
        );

        // With the member in the hash, no commitment can look like the address of a member.
        _seats[caseId][seat] = keccak256(abi.encode(msg.sender, commitment));
        p.committed |= uint16(1 << seat);
        if (p.committed == (1 << seats) - 1) {
            (p.phase, p.deadline) = (Phase.Revealing, uint40(block.timestamp) + revealWindow);
        }
        _progress[caseId] = p;

        emit Committed(caseId, msg.sender);
    }

    /// @inheritdoc IDisputeCases
    function reveal(uint256 caseId, uint8 seat, uint8 vote, bytes32 fingerprint, bytes32 salt) external {
        Progress memory p = _revealing(_progress[caseId]);
        require(p.phase == Phase.Revealing && block.timestamp <= p.deadline, WrongPhase(p.phase, p.deadline));
        require(vote != uint8(Vote.None) && vote <= uint8(type(Vote).max), BadVote(vote));
        bytes32 commitment = keccak256(abi.encode(caseId, msg.sender, vote, fingerprint, salt));
        require(
            seat < seats && _seats[caseId][seat] == keccak256(abi.encode(msg.sender, commitment)), BadReveal()
        );

        delete _seats[caseId][seat];
        uint16 bit = uint16(1 << seat);
        p.revealed |= bit;
        if (vote == uint8(Vote.Guilty)) p.guilty |= bit;
        else if (vote == uint8(Vote.Innocent)) p.innocent |= bit;
        else if (vote == uint8(Vote.Unserved)) p.unserved |= bit;
        _progress[caseId] = p;

        emit Revealed(caseId, msg.sender, Vote(vote), fingerprint);
    }

    /// @inheritdoc IDisputeCases
    function resolve(uint256 caseId, address[] calldata members) external {
        Progress memory p = _revealing(_progress[caseId]);
        bool over = block.timestamp > p.deadline;
        require(
            (p.phase == Phase.Revealing && (over || p.committed == p.revealed)) || (p.phase == Phase.Drawing && over),
            WrongPhase(p.phase, p.deadline)
        );
        p.outcome = p.phase == Phase.Drawing ? Outcome.Void : _outcome(p);
        require(
            p.outcome == Outcome.Void || _committees[caseId] == keccak256(abi.encode(members)), WrongMembers()
        );

        Accusation memory a = _accusations[caseId];
        _leave(caseId, p, a);
        p.phase = Phase.Closed;
        if (!over) p.deadline = uint40(block.timestamp);
        _progress[caseId] = p;

        uint96 taken;
        uint96 forfeited;
        uint16 fined = ~p.revealed;
        if (p.outcome == Outcome.Guilty) {
            require(p.earlier == 0, EarlierCase(p.earlier));
            taken = _convict(a, p.guilty, members);
            fined |= p.innocent;
        } else if (p.outcome == Outcome.Innocent) {
            _clearedIn[keccak256(abi.encode(a.node, a.receiptHash))] = caseId;
            forfeited = bond;
            token.burnOwn(bond - _credit(p.innocent, bond / 2 / uint96(_count(p.innocent)), members));
            fined |= p.guilty;
        } else if (p.unserved != 0) {
            forfeited =
                p.outcome == Outcome.Unserved ? bond : uint96(uint256(bond) * _count(p.unserved) / seats);
            _compensate(p, forfeited, members);
        }
        if (p.outcome != Outcome.Void) _fine(fined, members);

        emit CaseResolved(caseId, p.outcome, taken, forfeited);
        if (forfeited != bond) token.safeTransfer(a.accuser, bond - forfeited);
    }

    // ---------------------------------------------------------------- credits

    /// @inheritdoc IDisputeCases
    function claimCredits() external {
        (uint96 amount, uint40 claimableAt) = _credits.take(msg.sender, unbonding);
        require(amount != 0 || claimableAt != 0, NothingToClaim());
        require(amount != 0, CreditsLocked(claimableAt));

        emit CreditsClaimed(msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IDisputeCases
    function credits(address operator)
        external
        view
        returns (uint96 claimable, uint96 waiting, uint40 claimableAt)
    {
        return _credits.figures(operator, unbonding);
    }

    /// @inheritdoc IDisputeCases
    function cases(uint256 caseId) external view returns (Case memory) {
        Accusation memory a = _accusations[caseId];
        Progress memory p = _progress[caseId];
        return Case({
            phase: p.phase,
            outcome: p.outcome,
            deadline: p.deadline,
            accuser: a.accuser,
            node: a.node,
            bond: p.phase == Phase.None || p.phase == Phase.Closed ? 0 : bond,
            openedBlock: a.openedBlock,
            drawBlock: a.drawBlock,
            seq: a.seq,
            stageHash: a.stageHash,
            receiptHash: a.receiptHash,
            seats: seats,
            committed: uint8(_count(p.committed)),
            revealed: uint8(_count(p.revealed)),
            guilty: uint8(_count(p.guilty)),
            innocent: uint8(_count(p.innocent)),
            unserved: uint8(_count(p.unserved))
        });
    }

    /// @inheritdoc IDisputeCases
    function parameters() external view returns (Parameters memory) {
        return Parameters({
            fault: fault,
            silence: silence,
            bond: bond,
            demandBond: demandBond,
            rewardBps: rewardBps,
            memberBps: memberBps,
            seats: seats,
            skew: skew,
            evidenceWindow: evidenceWindow,
            drawWindow: drawWindow,
            commitWindow: commitWindow,
            revealWindow: revealWindow,
            serveWindow: serveWindow,
            drawDelay: drawDelay
        });
    }

    // --------------------------------------------------------------- internal

    /// @dev Numbers a case of the caller about a receipt. Returns when its last one ended, or zero.
    function _attempt(address node, bytes32 receiptHash) private returns (uint40 since) {
        bytes32 receipt = keccak256(abi.encode(node, receiptHash));
        require(_clearedIn[receipt] == 0, FoundInnocent(_clearedIn[receipt]));
        bytes32 key = keccak256(abi.encode(receipt, msg.sender));
        Attempts memory own = _attempts[key];
        if (own.made != 0) {
            Progress memory last = _progress[own.lastCase];
            require(last.phase == Phase.Closed, CaseExists(own.lastCase));
            require(own.made < TRIES, NoTryLeft(own.lastCase));
            since = last.deadline;
        }
        _attempts[key] = Attempts({lastCase: uint64(++_caseCount), made: own.made + 1});
    }

    /// @dev Puts a case behind the open ones about its stage; returns the one before it, or zero.
    function _follow(uint256 caseId, address node, bytes32 stageHash) private returns (uint48 earlier) {
        bytes32 stage = keccak256(abi.encode(node, stageHash));
        earlier = uint48(_latest[stage]);
        if (earlier != 0) _progress[earlier].later = uint48(caseId);
        _latest[stage] = caseId;
    }

    /// @dev Takes a case out of the open ones about its stage.
    function _leave(uint256 caseId, Progress memory p, Accusation memory a) private {
        if (p.earlier != 0) _progress[p.earlier].later = p.later;
        if (p.later != 0) _progress[p.later].earlier = p.earlier;
        bytes32 stage = keccak256(abi.encode(a.node, a.stageHash));
        if (_latest[stage] == caseId) _latest[stage] = p.earlier;
    }

    /// @dev What a committee is drawn by, or zero where the hash of the block is known no longer.
    function _seed(uint256 caseId, uint256 number, bytes calldata header) private view returns (bytes32) {
        bytes32 hash = Blocks.hashOf(number);
        if (hash == 0) return 0;
        require(keccak256(header) == hash, WrongHeader(number));
        return keccak256(abi.encode(Blocks.randomness(header), caseId));
    }

    /// @dev Takes a fault in pieces, one for each that is rewarded: of each at least half is burned. A stage is paid for
    /// once, though several of its receipts may be on trial; each committee that found it guilty is paid, by the accused.
    function _convict(Accusation memory a, uint256 guilty, address[] calldata members)
        private
        returns (uint96 taken)
    {
        address operator = registry.answersFor(a.node);
        uint96 piece = 2 * memberReward;
        if (!isConvicted[a.node][a.stageHash]) {
            isConvicted[a.node][a.stageHash] = true;
            // First the accuser's: a short stake should still pay whoever risked a bond.
            taken = registry.slash(operator, fault - uint96(_count(guilty)) * piece, a.accuser, reward);
        }
        if (piece == 0) return taken;
        for (uint256 i; i < members.length; ++i) {
            if (guilty >> i & 1 == 0) continue;
            taken += registry.slash(operator, piece, registry.answersFor(members[i]), memberReward);
        }
    }

    /// @dev Who judged a case that was not decided, because others were not served, is paid out of what the accuser forfeits for
    /// those; these get a fraction, which is worth less than any work. At least half is burned.
    function _compensate(Progress memory p, uint96 forfeited, address[] calldata members) private {
        uint96 idle = bond * IDLE_TENTHS / 10 / seats;
        uint96 rest = forfeited / 2 - idle * uint96(_count(p.unserved));
        uint96 paid = _credit(p.unserved, idle, members);
        uint96 judged = uint96(_count(p.guilty | p.innocent));
        if (judged != 0) {
            paid += _credit(p.guilty | p.innocent, uint96(Math.min(bond / 2 / seats, rest / judged)), members);
        }
        token.burnOwn(forfeited - paid);
    }

    /// @dev Credits operators of some members with so much each; returns the sum.
    function _credit(uint256 voters, uint96 share, address[] calldata members) private returns (uint96 sum) {
        for (uint256 i; i < members.length; ++i) {
            if (voters >> i & 1 == 0) continue;
            _credits.add(registry.answersFor(members[i]), share, unbonding);
            sum += share;
        }
    }

    function _fine(uint256 seats_, address[] calldata members) private {
        for (uint256 i; i < members.length; ++i) {
            if (seats_ >> i & 1 != 0) registry.slash(registry.answersFor(members[i]), silence, address(0), 0);
        }
    }

    /// @dev A case whose time to commit is over is revealing.
    function _revealing(Progress memory p) private view returns (Progress memory) {
        if (p.phase == Phase.Committing && block.timestamp > p.deadline) {
            (p.phase, p.deadline) = (Phase.Revealing, p.deadline + revealWindow);
        }
        return p;
    }

    function _outcome(Progress memory p) private view returns (Outcome) {
        uint256 needed = uint256(seats) * 2;
        if (_count(p.guilty) * 3 >= needed) return Outcome.Guilty;
        if (_count(p.innocent) * 3 >= needed) return Outcome.Innocent;
        if (_count(p.unserved) * 3 >= needed) return Outcome.Unserved;
        return Outcome.Inconclusive;
    }
}
