// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputes} from "./IDisputes.sol";
import {IVerifierList} from "./IVerifierList.sol";

/// @title Cases about the work of node keys, judged by committees of verifiers; see {IDisputes}
/// @dev Tokens held equal the bonds of open cases plus the unclaimed credits of verifiers.
interface IDisputeCases is IDisputes, IVerifierList {
    /// @notice Where a case stands. A deadline to commit that has passed starts the revealing by itself, so a case can
    /// be revealing while the phase stored is still Committing.
    enum Phase {
        None,
        Drawing,
        Committing,
        Revealing,
        Closed
    }

    /// @notice What a member of a committee says.
    /// @dev Innocent, guilty, doubtful, or not to be judged because the accuser did not deliver the evidence.
    enum Vote {
        None,
        Innocent,
        Guilty,
        Grey,
        Unserved
    }

    /// @notice How a case ended. Void is a case that never had a committee.
    enum Outcome {
        None,
        Guilty,
        Innocent,
        Unserved,
        Inconclusive,
        Void
    }

    /// @notice A case as `cases` shows it.
    /// @param deadline Last second of the phase, since 1970.
    /// @param bond Wei held for it: zero once it is closed.
    /// @param openedBlock Block in which it was opened.
    /// @param committed How many members committed; so for the votes below.
    struct Case {
        Phase phase;
        Outcome outcome;
        uint40 deadline;
        address accuser;
        address node;
        uint96 bond;
        uint64 openedBlock;
        uint32 seq;
        bytes32 stageHash;
        bytes32 receiptHash;
        uint8 seats;
        uint8 committed;
        uint8 revealed;
        uint8 guilty;
        uint8 innocent;
        uint8 unserved;
    }

    /// @notice `accuser` says that the work of a receipt is wrong. `receiptHash` is its hashStruct.
    event CaseOpened(
        uint256 indexed caseId,
        address indexed accuser,
        address indexed node,
        address operator,
        bytes32 stageHash,
        bytes32 receiptHash,
        uint32 seq,
        bytes32 modelId,
        uint32 layerStart,
        uint32 layerStop,
        uint40 drawDeadline
    );

    /// @notice The members judge the case; seat i is that of `members[i]`.
    event CommitteeDrawn(uint256 indexed caseId, address[] members, uint40 commitDeadline);

    /// @notice The member has committed to a vote.
    event Committed(uint256 indexed caseId, address indexed member);

    /// @notice The member's vote, and SHA-256 of the fingerprint of what it computed.
    event Revealed(uint256 indexed caseId, address indexed member, Vote vote, bytes32 fingerprint);

    /// @notice The case is closed: the accused lost `taken` of its stake, the accuser `forfeited` of its bond.
    event CaseResolved(uint256 indexed caseId, Outcome outcome, uint96 taken, uint96 forfeited);

    /// @notice The operator took its credits.
    event CreditsClaimed(address indexed operator, uint96 amount);

    /// @notice A committee has 1 to 15 seats.
    error BadSeats(uint8 seats);
    /// @notice Rewards could take more than half of a fault.
    error RewardsTooHigh(uint256 bps);
    /// @notice Stake would be gone before a case is over: the registry's unbonding delay must be `needed` seconds at least.
    error UnbondingTooShort(uint256 needed);
    /// @notice The node was found guilty of this stage before.
    error AlreadyConvicted();
    /// @notice There is a case of this receipt that is open or was decided.
    error CaseExists(uint256 caseId);
    /// @notice Not in this phase of the case, or not yet, or too late.
    error WrongPhase(Phase phase, uint40 deadline);
    /// @notice The block after the opening at the earliest.
    error TooEarly();
    /// @notice The seat is not the caller's, or it has committed.
    error NotMember();
    /// @notice No such vote.
    error BadVote(uint8 vote);
    /// @notice The seat is not the caller's, or its commitment is to another vote.
    error BadReveal();
    /// @notice These are not the members of the committee in the order of their seats.
    error WrongMembers();
    /// @notice No credit waits for the caller.
    error NothingToClaim();
    /// @notice The credits can be claimed from `claimableAt`.
    error CreditsLocked(uint40 claimableAt);

    /// @notice Accuses the signer of a receipt of wrong work. Takes the bond from the caller's allowance.
    /// @dev A receipt has one case at a time, and one decision: a case that was void, or in which no evidence was
    /// served, can be followed by another. Otherwise the accused could keep others out with a case of its own.
    /// @return caseId Number of the case, from 1.
    function openCase(Stage calldata stage, Receipt calldata receipt, Signature calldata signature)
        external
        returns (uint256 caseId);

    /// @notice `openCase` with an EIP-2612 permit over the bond.
    /// @dev A permit that fails is passed over: somebody may have submitted it first, and the allowance decides.
    function openCaseWithPermit(
        Stage calldata stage,
        Receipt calldata receipt,
        Signature calldata signature,
        uint256 deadline,
        uint8 permitV,
        bytes32 permitR,
        bytes32 permitS
    ) external returns (uint256 caseId);

    /// @notice Draws the committee of a case, from those who were on the list before it was opened. Anybody may.
    /// @dev All that the draw depends on but the randomness of this block is settled when the case is opened: places on
    /// the list do not move, and new ones do not count. A caller may still revert a draw that it does not like and try
    /// the next block, so verifiers should draw at once.
    /// @return members Node keys, in the order of their seats.
    function draw(uint256 caseId) external returns (address[] memory members);

    /// @notice Commits the caller, who sits in `seat`, to a vote.
    /// @param commitment keccak256(abi.encode(caseId, member, vote, fingerprint, salt)): uint256, address, uint8, bytes32,
    /// bytes32. The salt must be random, or others can guess the vote.
    function commit(uint256 caseId, uint8 seat, bytes32 commitment) external;

    /// @notice Reveals the caller's vote, once all have committed or the time to commit is over.
    function reveal(uint256 caseId, uint8 seat, uint8 vote, bytes32 fingerprint, bytes32 salt) external;

    /// @notice Closes a case when no vote is awaited any more. Anybody may.
    /// @dev Two thirds of the seats decide. Guilty: the bond returns, and the accused loses `fault`, of which the accuser
    /// and the operators of those who voted guilty have their parts. Innocent, or unserved: at least half of the bond is
    /// burned, the rest is credited to the operators of those who voted so. Otherwise the bond returns. Members who did
    /// not reveal lose `silence`. Never reverts on an amount, so a case is never stuck on an empty stake.
    /// @param members The committee in the order of its seats; not looked at when there is none.
    function resolve(uint256 caseId, address[] calldata members) external;

    /// @notice Pays those of the caller's credits that have waited. Each waits one unbonding delay, and two at most: a
    /// later one holds none up.
    function claimCredits() external;

    /// @notice What a case is about and where it stands.
    function cases(uint256 caseId) external view returns (Case memory);

    /// @notice Credits of an operator in wei: those that can be claimed now, those that still wait, and the time from
    /// which the next of these can be claimed, or zero.
    function credits(address operator)
        external
        view
        returns (uint96 claimable, uint96 waiting, uint40 claimableAt);

    /// @notice Whether a committee found the node guilty of a stage.
    function isConvicted(address node, bytes32 stageHash) external view returns (bool);

    /// @notice What faults cost and how long everything takes.
    function parameters() external view returns (Parameters memory);
}
