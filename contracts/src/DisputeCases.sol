// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Disputes} from "./Disputes.sol";
import {HyperToken} from "./HyperToken.sol";
import {VerifierList} from "./VerifierList.sol";
import {IDisputeCases} from "./interfaces/IDisputeCases.sol";
import {IStakingRegistry} from "./interfaces/IStakingRegistry.sol";
import {Dues} from "./libraries/Dues.sol";
import {Statements} from "./libraries/Statements.sol";

/// @title DisputeCases
/// @notice Cases about the work of node keys, judged by committees of verifiers; see {IDisputeCases}.
contract DisputeCases is IDisputeCases, VerifierList {
    using SafeERC20 for HyperToken;
    using Dues for mapping(address => Dues.Due);
    using Statements for Stage;
    using Statements for Receipt;

    /// @dev What is settled when a case is opened; two slots and two hashes. `places` is the length of the list then.
    struct Accusation {
        address accuser;
        uint64 openedBlock;
        uint32 seq;
        address node;
        uint16 places;
        bytes32 stageHash;
        bytes32 receiptHash;
    }

    /// @dev What changes, in one slot. In the masks bit i stands for seat i.
    struct Progress {
        uint40 deadline;
        Phase phase;
        Outcome outcome;
        uint16 committed;
        uint16 revealed;
        uint16 guilty;
        uint16 innocent;
        uint16 unserved;
    }

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

    uint256 private _caseCount;
    mapping(uint256 caseId => Accusation) private _accusations;
    mapping(uint256 caseId => Progress) private _progress;
    mapping(uint256 caseId => bytes32) private _committees;
    /// @dev A seat holds its member's address, then the hash of its commitment, then nothing.
    mapping(uint256 caseId => bytes32[15]) private _seats;
    mapping(bytes32 key => uint256 caseId) private _caseOf;

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
        uint256 longest = Math.max(p.serveWindow, uint256(p.drawWindow) + p.commitWindow + p.revealWindow);
        uint256 needed = uint256(p.skew) + p.evidenceWindow + longest;
        unbonding = registry.unbonding();
        require(unbonding >= needed, UnbondingTooShort(needed));

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
    }

    // ------------------------------------------------------------------ cases

    /// @inheritdoc IDisputeCases
    function openCase(Stage calldata stage, Receipt calldata receipt, Signature calldata signature)
        public
        returns (uint256 caseId)
    {
        bytes32 stageHash = stage.hash();
        bytes32 receiptHash = receipt.hash(stageHash);
        (address node, address operator) = _accused(receipt.issued, receiptHash, signature);
        require(!isConvicted[node][stageHash], AlreadyConvicted());
        bytes32 key = Statements.step(node, stageHash, receipt.seq);
        Outcome before = _progress[_caseOf[key]].outcome;
        require(
            _caseOf[key] == 0 || before == Outcome.Void || before == Outcome.Unserved, CaseExists(_caseOf[key])
        );

        caseId = ++_caseCount;
        _caseOf[key] = caseId;
        _accusations[caseId] = Accusation({
            accuser: msg.sender,
            openedBlock: uint64(block.number),
            seq: receipt.seq,
            node: node,
            places: uint16(verifierCount()),
            stageHash: stageHash,
            receiptHash: receiptHash
        });
        uint40 deadline = uint40(block.timestamp) + drawWindow;
        Progress memory p;
        (p.phase, p.deadline) = (Phase.Drawing, deadline);
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
    function draw(uint256 caseId) external returns (address[] memory members) {
        Progress memory p = _progress[caseId];
        require(p.phase == Phase.Drawing && block.timestamp <= p.deadline, WrongPhase(p.phase, p.deadline));
        Accusation memory a = _accusations[caseId];
        require(block.number > a.openedBlock, TooEarly());
        bytes32 seed = keccak256(abi.encode(block.prevrandao, blockhash(a.openedBlock), caseId));
        address[4] memory parties =
            [a.accuser, registry.answersFor(a.accuser), a.node, registry.answersFor(a.node)];
        members = _sample(seed, a.places, a.openedBlock, seats, parties);

        (p.phase, p.deadline) = (Phase.Committing, uint40(block.timestamp) + commitWindow);
        _progress[caseId] = p;
        _committees[caseId] = keccak256(abi.encode(members));
        for (uint256 i; i < members.length; ++i) _seats[caseId][i] = bytes32(uint256(uint160(members[i])));

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

        p.phase = Phase.Closed;
        _progress[caseId] = p;

        address accuser = _accusations[caseId].accuser;
        uint96 taken;
        uint96 forfeited;
        if (p.outcome == Outcome.Guilty) {
            taken = _convict(caseId, accuser, p.guilty, members);
        } else if (p.outcome == Outcome.Innocent || p.outcome == Outcome.Unserved) {
            forfeited = bond;
            _forfeit(p.innocent | p.unserved, members);
        }
        if (p.outcome != Outcome.Void) _penalise(~p.revealed, members);

        emit CaseResolved(caseId, p.outcome, taken, forfeited);
        if (forfeited == 0) token.safeTransfer(accuser, bond);
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
            serveWindow: serveWindow
        });
    }

    // --------------------------------------------------------------- internal

    /// @dev Takes a fault in pieces, one for each that is rewarded: of each at least half is burned. A stage is paid for
    /// once, though several of its receipts may be on trial.
    function _convict(uint256 caseId, address accuser, uint256 guilty, address[] calldata members)
        private
        returns (uint96 taken)
    {
        Accusation storage a = _accusations[caseId];
        (address node, bytes32 stageHash) = (a.node, a.stageHash);
        if (isConvicted[node][stageHash]) return 0;
        isConvicted[node][stageHash] = true;

        address operator = registry.answersFor(node);
        uint96 piece = 2 * memberReward;
        // First the accuser's: a short stake should still pay whoever risked a bond.
        taken = registry.slash(operator, fault - uint96(_count(guilty)) * piece, accuser, reward);
        if (piece == 0) return taken;
        for (uint256 i; i < members.length; ++i) {
            if (guilty >> i & 1 == 0) continue;
            taken += registry.slash(operator, piece, registry.answersFor(members[i]), memberReward);
        }
    }

    /// @dev Burns a bond but for at most half of it, which is shared by the operators of some members.
    function _forfeit(uint256 voters, address[] calldata members) private {
        uint96 share = bond / 2 / uint96(_count(voters));
        uint96 burned = bond;
        for (uint256 i; i < members.length; ++i) {
            if (voters >> i & 1 == 0) continue;
            _credits.add(registry.answersFor(members[i]), share, unbonding);
            burned -= share;
        }
        token.burn(burned);
    }

    function _penalise(uint256 silent, address[] calldata members) private {
        for (uint256 i; i < members.length; ++i) {
            if (silent >> i & 1 != 0) registry.slash(registry.answersFor(members[i]), silence, address(0), 0);
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
        if (_count(p.unserved) * 3 >= needed) return Outcome.Unserved;
        if (_count(p.innocent | p.unserved) * 3 >= needed) return Outcome.Innocent;
        return Outcome.Inconclusive;
    }

    function _count(uint256 mask) private pure returns (uint256 ones) {
        for (; mask != 0; mask &= mask - 1) ++ones;
    }
}
