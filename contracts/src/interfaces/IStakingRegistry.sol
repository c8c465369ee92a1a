// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {HyperToken} from "../HyperToken.sol";

/// @title Stake of operators, and the node keys they answer for
/// @notice An operator stakes tokens and authorises node keys: the hot keys of the machines it runs. It ties a share of
/// its stake to each, and no wei of it to two: what a node key may offer grows with its share. Stake leaves only after an
/// unbonding delay, during which it can still be slashed.
/// @dev Tokens held equal the sum of `active + thawing` over operators plus the unclaimed rewards of reporters.
/// @custom:assumption The token's transfers move the exact amount or revert, and call nobody. What is burned goes to an
/// address without a key where the token cannot be burned.
/// @custom:warning Shares say how much a node key may offer, not how much it can lose: a fault of one key is taken from
/// all of its operator's stake. Tokens sent here by a plain transfer are lost.
interface IStakingRegistry {
    /// @notice Whom a node key works for, the active stake in wei behind it, and whether that makes it eligible.
    struct Standing {
        address operator;
        uint96 backing;
        bool eligible;
    }

    /// @notice `amount` was added; `active` is the operator's active stake afterwards.
    event Staked(address indexed operator, uint96 amount, uint96 active);

    /// @notice `amount` left the active stake; all of `thawing` can be withdrawn from `thawEnd` (seconds since 1970).
    event Unstaking(address indexed operator, uint96 amount, uint96 thawing, uint40 thawEnd);

    /// @notice `amount` of thawing stake is active again.
    event UnstakeCancelled(address indexed operator, uint96 amount);

    /// @notice `amount` of thawed stake went back to the operator.
    event Withdrawn(address indexed operator, uint96 amount);

    /// @notice The node key works for the operator, who answers for what it signs, with a share of its stake behind it.
    event Authorized(address indexed operator, address indexed nodeKey, uint96 share);

    /// @notice Another share of the operator's stake is behind the node key.
    event Reshared(address indexed operator, address indexed nodeKey, uint96 share);

    /// @notice The node key works for the operator no longer. The operator still answers for what it has signed.
    event Revoked(address indexed operator, address indexed nodeKey);

    /// @notice `rewarded + burned` was taken from the operator; `rewarded` waits for the reporter.
    event Slashed(
        address indexed operator, address indexed reporter, uint96 requested, uint96 rewarded, uint96 burned
    );

    /// @notice The reporter took its rewards.
    event RewardsClaimed(address indexed reporter, uint96 amount);

    /// @notice The contracts that may slash, for good.
    event SlashersSet(address[] slashers);

    /// @notice An address must not be zero.
    error ZeroAddress();
    /// @notice An amount must not be zero.
    error ZeroAmount();
    /// @notice The active stake is smaller than the amount.
    error InsufficientStake(uint96 active);
    /// @notice The active stake is tied to other node keys; `free` is the largest share that this one could have.
    error StakeCommitted(uint96 free);
    /// @notice No stake is thawing.
    error NothingThawing();
    /// @notice The stake thaws until `thawEnd`.
    error StillThawing(uint40 thawEnd);
    /// @notice The node key belongs to `operator`, or did.
    error NodeKeyTaken(address operator);
    /// @notice The node key's consent has expired.
    error ConsentExpired(uint256 deadline);
    /// @notice The consent is not signed by the node key over this operator and deadline.
    error BadConsent(address nodeKey);
    /// @notice Only the node key's operator, or the node key itself, may do this.
    error NotOperator();
    /// @notice Only a slasher may do this.
    error NotSlasher();
    /// @notice Only the deployer may do this.
    error NotDeployer();
    /// @notice The slashers are set for good.
    error SlashersAlreadySet();
    /// @notice There must be a slasher, or faults cost nothing.
    error NoSlashers();
    /// @notice No reward waits for the caller.
    error NothingToClaim();
    /// @notice The rewards can be claimed from `claimableAt`.
    error RewardsLocked(uint40 claimableAt);

    /// @notice Adds to the caller's active stake.
    /// @param amount Amount in wei, taken from the caller's allowance.
    function stake(uint96 amount) external;

    /// @notice `stake` with an EIP-2612 permit in place of an allowance.
    /// @dev A permit that fails is passed over: somebody may have submitted it first, and the allowance decides.
    function stakeWithPermit(uint96 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Moves active stake into thawing. All thawing stake then waits a full unbonding delay from now.
    function unstake(uint96 amount) external;

    /// @notice Makes all of the caller's thawing stake active again.
    function cancelUnstake() external;

    /// @notice Pays out the caller's thawed stake.
    function withdraw() external;

    /// @notice Makes the caller the operator of a node key and ties a share of its active stake to it. A node key has one
    /// operator, an operator as many keys as its stake has shares for.
    /// @dev A node key that was revoked can come back to its operator, and to nobody else: what it signed before stays
    /// that operator's.
    /// @param nodeKey Address of the node key.
    /// @param share Active stake in wei that is tied to no other node key.
    /// @param deadline Last second (since 1970) at which the consent holds.
    /// @param signature The node key's consent, EIP-712 Authorize(address operator,address nodeKey,uint256 deadline):
    /// 64 bytes (EIP-2098) or 65 bytes, s in the lower half.
    /// @custom:warning Its operator can use consent again until its deadline, after a revocation too: keep deadlines
    /// short.
    function authorize(address nodeKey, uint96 share, uint256 deadline, bytes calldata signature) external;

    /// @notice Changes the share of the caller's stake that is tied to one of its node keys. To end its work, `revoke` it.
    /// @param share In wei; what is added must be active and tied to no other node key.
    function reshare(address nodeKey, uint96 share) external;

    /// @notice Ends the work of a node key and frees its share. Its operator may do this, or the node key itself.
    /// @dev The operator goes on answering for it: revoking a key does not undo what it signed.
    function revoke(address nodeKey) external;

    /// @notice Takes `min(requested, active + thawing)` from an operator: active stake first, so that an operator at
    /// fault loses its standing at once, then thawing stake.
    /// @dev At least half of what is taken is burned. The rest, at most `reward`, waits for the reporter; without a
    /// reporter (zero address) all is burned. Never reverts on an amount, so a case is never stuck on an empty stake.
    /// @return taken Amount in wei that the operator lost.
    function slash(address operator, uint96 requested, address reporter, uint96 reward)
        external
        returns (uint96 taken);

    /// @notice Pays those of the caller's rewards that have waited. Each waits one unbonding delay, and two at most: a
    /// later one holds none up.
    function claimRewards() external;

    /// @notice Appoints all contracts that may slash: by the deployer, once.
    /// @dev They are a set, so that what slashes can be several contracts of which none has to trust or call another. It
    /// is closed at once: nobody who stakes later can meet a slasher that it could not see before.
    /// @custom:warning Stake cannot be slashed before. Clients should not trust stake in a registry without slashers, and
    /// operators none whose `slashers` they do not know: each of them can take all stake.
    function setSlashers(address[] calldata contracts) external;

    /// @notice Stake of an operator in wei, and the time from which its thawing part can be withdrawn.
    function stakes(address operator) external view returns (uint96 active, uint96 thawing, uint40 thawEnd);

    /// @notice Active stake of an operator in wei that is tied to node keys. A slash or `unstake` can leave less active.
    function committed(address operator) external view returns (uint96);

    /// @notice Rewards of a reporter in wei: those that can be claimed now, those that still wait, and the time from which
    /// the next of these can be claimed, or zero.
    function rewards(address reporter)
        external
        view
        returns (uint96 claimable, uint96 waiting, uint40 claimableAt);

    /// @notice Operator of a node key, or zero.
    function operatorOf(address nodeKey) external view returns (address);

    /// @notice Operator that answers for everything the node key has signed and will sign, or zero if it never had one.
    /// It is set once, and outlives a revocation.
    function answersFor(address nodeKey) external view returns (address);

    /// @notice Stake in wei that its operator tied to the node key; zero if it does not work.
    function shareOf(address nodeKey) external view returns (uint96);

    /// @notice Active stake in wei behind the node key: its share, or, where less is active than the operator has tied to
    /// its node keys, the same part of that. The backings of an operator's keys never sum to more than its active stake.
    function backingOf(address nodeKey) external view returns (uint96);

    /// @notice Whether the node key may serve: its operator tied at least the minimum to it, and three quarters of that are
    /// still behind it.
    function isEligible(address nodeKey) external view returns (bool);

    /// @notice `isEligible`, and when its operator last added stake, in seconds since 1970 modulo 2^24.
    /// @dev So that nobody can put stake behind a key after it saw that a draw would take it.
    function eligibility(address nodeKey) external view returns (bool eligible, uint24 grown);

    /// @notice Operator (or zero), backing and eligibility of each of many node keys.
    function standings(address[] calldata nodeKeys) external view returns (Standing[] memory);

    /// @notice EIP-712 hash that a node key signs to consent.
    function authorizeDigest(address operator, address nodeKey, uint256 deadline) external view returns (bytes32);

    /// @notice EIP-712 domain: "HyperCluster StakingRegistry", "1", chain id, this contract.
    function DOMAIN_SEPARATOR() external view returns (bytes32);

    /// @notice The token that is staked.
    function token() external view returns (HyperToken);

    /// @notice Whether the account is one of the slashers.
    function isSlasher(address account) external view returns (bool);

    /// @notice All contracts that may slash; none as long as they are not appointed.
    function slashers() external view returns (address[] memory);

    /// @notice Seconds that stake thaws and that rewards wait.
    function unbonding() external view returns (uint40);

    /// @notice Share in wei that makes a node key eligible, as long as three quarters of it are behind the key.
    function minStake() external view returns (uint96);

    /// @notice Backing in wei that each session takes which a node key offers.
    function sessionStake() external view returns (uint96);
}
