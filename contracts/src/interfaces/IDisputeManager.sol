// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title What operators lose their stake for, and how it is found out
/// @notice Node keys sign receipts for their work as providers and verdicts for their work as verifiers. Two statements
/// that contradict each other are proof in themselves. Whether the work of a receipt was right is decided by a committee
/// of verifiers, drawn at random, that runs it again. Whether its rows are to be had is decided by asking for one here.
/// @dev Tokens held equal the bonds of open cases and demands plus the unclaimed credits of verifiers.
/// @custom:assumption The token is HyperToken: transfers move the exact amount or revert, and call nobody.
/// @custom:assumption The registry appoints this contract as its slasher before anything is at stake.
/// @custom:warning Tokens sent here by a plain transfer are lost.
interface IDisputeManager {
    /// @notice What faults cost and how long everything takes, fixed for good.
    /// @param fault Stake in wei that a fault costs.
    /// @param silence Stake in wei that a member of a committee loses who does not reveal a vote.
    /// @param bond Tokens in wei that a case costs the accuser unless the accused is found guilty or nothing is decided.
    /// @param demandBond Tokens in wei that a demand costs if it is served.
    /// @param rewardBps Part of `fault` that goes to whoever reports it, in 1/10,000.
    /// @param memberBps Part of `fault` that goes to the operator of each member that voted guilty, in 1/10,000.
    /// @param seats Members of a committee, 1 to 15.
    /// @param skew Seconds by which the clock of a signer may be wrong.
    /// @param evidenceWindow Seconds from a receipt's issue in which a case or a demand can be made of it.
    /// @param drawWindow Seconds to draw a committee.
    /// @param commitWindow Seconds to judge and to commit to a vote.
    /// @param revealWindow Seconds to reveal a vote.
    /// @param serveWindow Seconds to serve a demand.
    struct Parameters {
        uint96 fault;
        uint96 silence;
        uint96 bond;
        uint96 demandBond;
        uint16 rewardBps;
        uint16 memberBps;
        uint8 seats;
        uint40 skew;
        uint40 evidenceWindow;
        uint40 drawWindow;
        uint40 commitWindow;
        uint40 revealWindow;
        uint40 serveWindow;
    }

    /// @notice One stage of one session, EIP-712 type Stage.
    /// @param session Random bytes of the client.
    /// @param nonce Random bytes of the provider: without them a client could get two receipts for one step from an
    /// honest provider, by making the same session twice.
    /// @param channelId The channel that pays for it.
    /// @param layerStart First layer.
    /// @param layerStop Layer behind the last.
    /// @param wireDtype Encoding of activations: 1 for binary32, 2 for binary16, both little-endian.
    /// @param profile SHA-256 of the provider's backend profile.
    struct Stage {
        bytes16 session;
        bytes16 nonce;
        bytes32 channelId;
        bytes32 modelId;
        uint32 layerStart;
        uint32 layerStop;
        uint8 wireDtype;
        bytes32 profile;
    }

    /// @notice One step of a stage: EIP-712 type Receipt, whose first member is the stage.
    /// @param seq Number of the step, from 0.
    /// @param position Tokens of the session before it.
    /// @param tokens Rows of input.
    /// @param outputs Rows of output.
    /// @param inRoot Root of the Merkle tree (RFC 9162, SHA-256) over the rows of input.
    /// @param outRoot The same over the rows of output.
    /// @param previous hashStruct of the receipt before; zero for the first.
    /// @param issued Seconds since 1970.
    struct Receipt {
        uint32 seq;
        uint32 position;
        uint32 tokens;
        uint32 outputs;
        bytes32 inRoot;
        bytes32 outRoot;
        bytes32 previous;
        uint40 issued;
    }

    /// @notice What a verifier says of a transcript, EIP-712 type Verdict.
    /// @param tail Whether the rows of output are candidates with logits, not activations.
    /// @param finding 1 for outputs that are right, 2 for doubtful ones, 3 for wrong ones.
    /// @param fingerprint SHA-256 of the fingerprint of what the verifier computed.
    /// @param job Random bytes of the client.
    /// @param issued Seconds since 1970.
    /// @custom:warning A verifier that passes two different outputs of one input proves itself lazy: see
    /// `proveContradiction`. It must pass nothing of which a row is further than a tenth from its own.
    struct Verdict {
        bytes32 modelId;
        uint32 layerStart;
        uint32 layerStop;
        uint8 wireDtype;
        bool tail;
        bytes32 inRoot;
        bytes32 outRoot;
        uint32 tokens;
        uint32 outputs;
        uint8 finding;
        bytes32 fingerprint;
        bytes32 job;
        uint40 issued;
    }

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

    /// @notice Where a demand stands.
    enum DemandStatus {
        None,
        Open,
        Served,
        Lapsed
    }

    /// @notice A demand as `demands` shows it: row `row` of the `size` rows under `root`, until `deadline`.
    struct Demand {
        address demander;
        uint32 row;
        uint32 size;
        DemandStatus status;
        address node;
        uint40 deadline;
        bytes32 root;
    }

    /// @notice The node signed two different receipts for one step. Its operator lost `taken`.
    event EquivocationProven(
        address indexed node,
        address indexed operator,
        bytes32 indexed stageHash,
        uint32 seq,
        address reporter,
        uint96 taken
    );

    /// @notice The node passed two different outputs of one input. Its operator lost `taken`.
    event ContradictionProven(
        address indexed node, address indexed operator, bytes32 indexed inRoot, address reporter, uint96 taken
    );

    /// @notice The verifier can be drawn for cases that are opened from the next block on.
    event Enlisted(address indexed verifier, address indexed operator);

    /// @notice The verifier is drawn no longer.
    event Delisted(address indexed verifier, address indexed operator);

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

    /// @notice A row of a receipt has to be shown until `deadline` (seconds since 1970).
    event Demanded(
        uint256 indexed demandId,
        address indexed demander,
        address indexed node,
        address operator,
        bytes32 stageHash,
        uint32 seq,
        bool output,
        uint32 row,
        uint40 deadline
    );

    /// @notice The row was shown: it is in the calldata of this transaction, and has this keccak256.
    event Served(uint256 indexed demandId, bytes32 dataHash);

    /// @notice The row was not shown. The operator lost `taken`.
    event Withheld(uint256 indexed demandId, address indexed node, address indexed operator, uint96 taken);

    /// @notice The operator took its credits.
    event CreditsClaimed(address indexed operator, uint96 amount);

    /// @notice An address must not be zero.
    error ZeroAddress();
    /// @notice A committee has 1 to 15 seats.
    error BadSeats(uint8 seats);
    /// @notice Rewards could take more than half of a fault.
    error RewardsTooHigh(uint256 bps);
    /// @notice Stake would be gone before a case is over: the registry's unbonding delay must be `needed` seconds at least.
    error UnbondingTooShort(uint256 needed);
    /// @notice The statement is not signed by a node key that ever had an operator here; `signer` is what the signature
    /// recovers to, zero for a malformed one.
    error UnknownNode(address signer);
    /// @notice The operator has nothing that could be taken.
    error NothingAtStake(address operator);
    /// @notice The registry has not appointed this contract.
    error NotSlasher();
    /// @notice The receipts are of different steps, or say the same.
    error NotEquivocal();
    /// @notice The statements are of different signers.
    error DifferentSigners(address first, address second);
    /// @notice The fault was punished before.
    error AlreadyProven();
    /// @notice The verdicts are not two passes of different activations for one input.
    error NotContradictory();
    /// @notice A row is empty, is not a whole number of values, holds a value that is not finite, or is not as long as
    /// the other; or there is no such encoding.
    error BadRow();
    /// @notice The rows are close enough to be two roundings of one.
    error RowsAgree();
    /// @notice The proof does not lead from the row to the root.
    error BadProof();
    /// @notice The receipt is older than the evidence window, or of the future.
    error StaleReceipt(uint40 issued);
    /// @notice The node was found guilty of this stage before.
    error AlreadyConvicted();
    /// @notice There is a case of this receipt that is open or was decided.
    error CaseExists(uint256 caseId);
    /// @notice Not in this phase of the case, or not yet, or too late.
    error WrongPhase(Phase phase, uint40 deadline);
    /// @notice The block after the opening at the earliest.
    error TooEarly();
    /// @notice The list has too few eligible verifiers that are no party to the case.
    error NotEnoughVerifiers(uint256 found);
    /// @notice The seat is not the caller's, or it has committed.
    error NotMember();
    /// @notice No such vote.
    error BadVote(uint8 vote);
    /// @notice The seat is not the caller's, or its commitment is to another vote.
    error BadReveal();
    /// @notice These are not the members of the committee in the order of their seats.
    error WrongMembers();
    /// @notice The node key has no operator with the minimum stake.
    error NotEligible();
    /// @notice The operator has this verifier on the list.
    error AlreadyEnlisted(address verifier);
    /// @notice The list is full.
    error ListFull();
    /// @notice The verifier is not on the list.
    error NotEnlisted();
    /// @notice An eligible verifier is delisted by itself or its operator.
    error NotOperator();
    /// @notice The receipt commits to `size` rows.
    error NoSuchRow(uint32 size);
    /// @notice The row was demanded before.
    error DemandExists(uint256 demandId);
    /// @notice The demand is not open, or its deadline has passed, or has not.
    error WrongStatus(DemandStatus status, uint40 deadline);
    /// @notice No credit waits for the caller.
    error NothingToClaim();
    /// @notice The credits can be claimed from `claimableAt`.
    error CreditsLocked(uint40 claimableAt);

    /// @notice Punishes a provider that signed two receipts for one step of a stage. Whoever submits is rewarded.
    /// @dev No age limit: stake that is there can be taken. Once per signer, stage and step. Refused while the operator
    /// has nothing at stake, so that it cannot burn a proof against itself.
    /// @param ra First word of the signature of `a`.
    /// @param vsa Second word (EIP-2098).
    /// @custom:warning A pending proof can be copied, and the reward with it. The fault is punished all the same.
    function proveEquivocation(
        bytes32 stageHash,
        Receipt calldata a,
        bytes32 ra,
        bytes32 vsa,
        Receipt calldata b,
        bytes32 rb,
        bytes32 vsb
    ) external;

    /// @notice Punishes a verifier that passed two outputs of one input that cannot both be right: in one row their
    /// distance is more than a quarter of their root-sum-square length. Whoever submits is rewarded.
    /// @dev Once per signer and input. A verifier that passes only rows within a tenth of its own cannot be caught.
    /// @param row Number of the row that differs; `rowA` under `a.outRoot`, `rowB` under `b.outRoot`.
    function proveContradiction(
        Verdict calldata a,
        bytes32 ra,
        bytes32 vsa,
        Verdict calldata b,
        bytes32 rb,
        bytes32 vsb,
        uint32 row,
        bytes calldata rowA,
        bytes32[] calldata proofA,
        bytes calldata rowB,
        bytes32[] calldata proofB
    ) external;

    /// @notice Puts the caller, a node key, on the list of verifiers. One key per operator; it must be eligible.
    function enlist() external;

    /// @notice Takes a verifier off the list: by itself, its operator, or, when it is not eligible, anybody.
    function delist(address verifier) external;

    /// @notice Accuses the signer of a receipt of wrong work. Takes the bond from the caller's allowance.
    /// @dev A receipt has one case at a time, and one decision: a case that was void, or in which no evidence was
    /// served, can be followed by another. Otherwise the accused could keep others out with a case of its own.
    /// @return caseId Number of the case, from 1.
    function openCase(Stage calldata stage, Receipt calldata receipt, bytes32 r, bytes32 vs)
        external
        returns (uint256 caseId);

    /// @notice `openCase` with an EIP-2612 permit over the bond.
    /// @dev A permit that fails is passed over: somebody may have submitted it first, and the allowance decides.
    function openCaseWithPermit(
        Stage calldata stage,
        Receipt calldata receipt,
        bytes32 r,
        bytes32 vs,
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

    /// @notice Demands that a row of a receipt be shown. Takes the demand's bond from the caller's allowance.
    /// @param output Whether a row of output is meant, or one of input.
    /// @return demandId Number of the demand, from 1.
    function demand(
        Stage calldata stage,
        Receipt calldata receipt,
        bytes32 r,
        bytes32 vs,
        bool output,
        uint32 row
    ) external returns (uint256 demandId);

    /// @notice `demand` with an EIP-2612 permit over the bond; see `openCaseWithPermit`.
    function demandWithPermit(
        Stage calldata stage,
        Receipt calldata receipt,
        bytes32 r,
        bytes32 vs,
        bool output,
        uint32 row,
        uint256 deadline,
        uint8 permitV,
        bytes32 permitR,
        bytes32 permitS
    ) external returns (uint256 demandId);

    /// @notice Shows a demanded row. Anybody may; the bond goes to the node's operator.
    function serve(uint256 demandId, bytes calldata data, bytes32[] calldata proof) external;

    /// @notice Ends a demand that was not served in time: the bond returns to the demander, and the operator loses
    /// `fault`, of which the demander has a part.
    function lapse(uint256 demandId) external;

    /// @notice Pays the caller's credits, one unbonding delay after the latest of them.
    function claimCredits() external;

    /// @notice What a case is about and where it stands.
    function cases(uint256 caseId) external view returns (Case memory);

    /// @notice What a demand is about and where it stands.
    function demands(uint256 demandId) external view returns (Demand memory);

    /// @notice Credits of an operator in wei, and the time from which they can be claimed.
    function credits(address operator) external view returns (uint96 amount, uint40 claimableAt);

    /// @notice Whether a committee found the node guilty of a stage.
    function isConvicted(address node, bytes32 stageHash) external view returns (bool);

    /// @notice Whether the node was punished for two receipts of a step.
    function isEquivocator(address node, bytes32 stageHash, uint32 seq) external view returns (bool);

    /// @notice Whether the verifier was punished for two passes of an input.
    function isContradictor(address node, bytes32 inRoot) external view returns (bool);

    /// @notice Places on the list of verifiers, vacant ones too.
    function verifierCount() external view returns (uint256);

    /// @notice Verifier at a place of the list, from 0; zero for a vacant one.
    function verifierAt(uint256 place) external view returns (address);

    /// @notice Whether the node key is on the list.
    function isEnlisted(address verifier) external view returns (bool);

    /// @notice The operator's verifier on the list, or zero.
    function verifierOf(address operator) external view returns (address);

    /// @notice What faults cost and how long everything takes.
    function parameters() external view returns (Parameters memory);

    /// @notice EIP-712 hashStruct of a stage.
    function stageHashOf(Stage calldata stage) external pure returns (bytes32);

    /// @notice EIP-712 hash that a provider signs for a step.
    function receiptDigest(bytes32 stageHash, Receipt calldata receipt) external view returns (bytes32);

    /// @notice EIP-712 hash that a verifier signs for a transcript.
    function verdictDigest(Verdict calldata verdict) external view returns (bytes32);

    /// @notice EIP-712 domain: "HyperCluster DisputeManager", "1", chain id, this contract.
    function DOMAIN_SEPARATOR() external view returns (bytes32);
}
