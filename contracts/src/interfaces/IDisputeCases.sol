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
    /// @param deadline Last second of the phase, since 1970; of a closed case the second in which it ended.
    /// @param bond Wei held for it: zero once it is closed.
    /// @param openedBlock Block in which it was opened.
    /// @param drawBlock Block whose randomness draws the committee.
    /// @param committed How many members committed; so for the votes below.
    struct Case {
        Phase phase;
        Outcome outcome;
        uint40 deadline;
        address accuser;
        address node;
        uint96 bond;
        uint64 openedBlock;
        uint64 drawBlock;
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

    /// @notice The draw needs another call: `found` members were found so far, by the randomness of `drawBlock`. With none, the
    /// hash of the block before that was known no longer.
    event DrawGoesOn(uint256 indexed caseId, uint8 found, uint64 drawBlock);

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
    /// @notice A node key could not pay for a fault: the registry's minimum is less.
    error FaultTooHigh(uint96 minStake);
    /// @notice The caller's case about this receipt is open.
    error CaseExists(uint256 caseId);
    /// @notice The receipt was found innocent.
    error FoundInnocent(uint256 caseId);
    /// @notice The caller made as many cases of this receipt as it can.
    error NoTryLeft(uint256 caseId);
    /// @notice A case about the stage that was opened earlier has to be closed before this one can convict.
    error EarlierCase(uint256 caseId);
    /// @notice Not in this phase of the case, or not yet, or too late.
    error WrongPhase(Phase phase, uint40 deadline);
    /// @notice In the block after `drawBlock` at the earliest.
    error TooEarly(uint256 drawBlock);
    /// @notice This is not the header of the block.
    error WrongHeader(uint256 drawBlock);
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
    /// @dev An accuser has one case about a receipt at a time and three in all, each within the evidence window of the receipt or
    /// of the end of the one before. Cases of others do not count: the accused can keep nobody out with a case of its
    /// own. Only a decision ends this: a stage that was found guilty, or a receipt that was found innocent. Cases that are
    /// open then go on.
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

    /// @notice Draws the committee of a case, from those who were on the list before it was opened. Anybody may, from the block
    /// after `drawBlock` on.
    /// @dev All that the draw depends on is settled when the case is opened: the block whose randomness draws, the places on the
    /// list, and who is there with what stake. So no caller can choose a draw by reverting others, and nobody who sees the
    /// outcome coming can arrange for a seat; whoever has one can only lose it. A call looks at so many places of the list
    /// at most: with many of them vacant, or taken by keys that are not eligible any more, a draw takes several calls.
    /// Where the block is so old that its hash is known no longer, a call settles on a new one.
    /// @param header Header of block `drawBlock` in RLP. Not looked at when the draw goes on.
    /// @return members Node keys, in the order of their seats; none when the draw needs another call.
    function draw(uint256 caseId, bytes calldata header) external returns (address[] memory members);

    /// @notice Commits the caller, who sits in `seat`, to a vote.
    /// @param commitment keccak256(abi.encode(caseId, member, vote, fingerprint, salt)): uint256, address, uint8, bytes32,
    /// bytes32. The salt must be random, or others can guess the vote.
    function commit(uint256 caseId, uint8 seat, bytes32 commitment) external;

    /// @notice Reveals the caller's vote, once all have committed or the time to commit is over.
    function reveal(uint256 caseId, uint8 seat, uint8 vote, bytes32 fingerprint, bytes32 salt) external;

    /// @notice Closes a case when no vote is awaited any more. Anybody may.
    /// @dev Two thirds of the seats decide. Guilty: the bond returns, and the accused loses `fault`, of which the accuser
    /// and the operators of those who voted guilty have their parts; of a stage that was convicted before it loses the
    /// parts of the latter alone. Cases about one stage convict in the order in which they were opened, so that the accused
    /// gains nothing by a case of its own once there is another. Innocent: half of the bond is burned, the rest is credited
    /// to the operators of those who voted so. Unserved: the bond is lost as well, and of an undecided case the part of
    /// each seat that voted so; who voted so gets a fraction of its part, who judged is paid from the rest, and at
    /// least half is burned. Void, or else: the bond returns. Members who did not reveal, and those who voted guilty of what
    /// was found innocent or the other way round, lose `silence`. Never reverts on an amount, so a case is never stuck on
    /// an empty stake.
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
