// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {HyperToken} from "./HyperToken.sol";
import {IStakingRegistry} from "./interfaces/IStakingRegistry.sol";

/// @title StakingRegistry
/// @notice Stake of operators and the node keys they answer for; see {IStakingRegistry}.
contract StakingRegistry is IStakingRegistry, EIP712 {
    using SafeERC20 for HyperToken;

    /// @dev One storage slot.
    struct Stake {
        uint96 active;
        uint96 thawing;
        uint40 thawEnd;
    }

    /// @dev One storage slot.
    struct Reward {
        uint96 amount;
        uint40 claimableAt;
    }

    /// @dev One storage slot. The operator stays when the key is revoked.
    struct NodeKey {
        address operator;
        bool authorized;
    }

    bytes32 private constant AUTHORIZE_TYPEHASH =
        keccak256("Authorize(address operator,address nodeKey,uint256 deadline)");

    address private immutable deployer = msg.sender;

    /// @inheritdoc IStakingRegistry
    HyperToken public immutable token;

    /// @inheritdoc IStakingRegistry
    uint40 public immutable unbonding;

    /// @inheritdoc IStakingRegistry
    uint96 public immutable minStake;

    /// @inheritdoc IStakingRegistry
    mapping(address account => bool) public isSlasher;

    /// @inheritdoc IStakingRegistry
    mapping(address operator => Stake) public stakes;

    /// @inheritdoc IStakingRegistry
    mapping(address reporter => Reward) public rewards;

    mapping(address nodeKey => NodeKey) private _nodeKeys;
    address[] private _slashers;

    /// @param token_ HyperToken.
    /// @param unbonding_ Seconds that stake thaws; it must outlast every window in which a fault can be reported.
    /// @param minStake_ Active stake in wei that makes an operator's nodes eligible.
    constructor(address token_, uint40 unbonding_, uint96 minStake_)
        EIP712("HyperCluster StakingRegistry", "1")
    {
        require(token_ != address(0), ZeroAddress());
        token = HyperToken(token_);
        unbonding = unbonding_;
        minStake = minStake_;
    }

    // ------------------------------------------------------------------ stake

    /// @inheritdoc IStakingRegistry
    function stake(uint96 amount) public {
        require(amount != 0, ZeroAmount());

        uint96 active = stakes[msg.sender].active + amount;
        stakes[msg.sender].active = active;

        emit Staked(msg.sender, amount, active);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IStakingRegistry
    function stakeWithPermit(uint96 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external {
        try token.permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
        stake(amount);
    }

    /// @inheritdoc IStakingRegistry
    function unstake(uint96 amount) external {
        Stake memory own = stakes[msg.sender];
        require(amount != 0, ZeroAmount());
        require(amount <= own.active, InsufficientStake(own.active));

        own.active -= amount;
        own.thawing += amount;
        own.thawEnd = uint40(block.timestamp) + unbonding;
        stakes[msg.sender] = own;

        emit Unstaking(msg.sender, amount, own.thawing, own.thawEnd);
    }

    /// @inheritdoc IStakingRegistry
    function cancelUnstake() external {
        Stake memory own = stakes[msg.sender];
        require(own.thawing != 0, NothingThawing());

        stakes[msg.sender] = Stake({active: own.active + own.thawing, thawing: 0, thawEnd: 0});

        emit UnstakeCancelled(msg.sender, own.thawing);
    }

    /// @inheritdoc IStakingRegistry
    function withdraw() external {
        Stake memory own = stakes[msg.sender];
        require(own.thawing != 0, NothingThawing());
        require(block.timestamp >= own.thawEnd, StillThawing(own.thawEnd));

        stakes[msg.sender] = Stake({active: own.active, thawing: 0, thawEnd: 0});

        emit Withdrawn(msg.sender, own.thawing);
        token.safeTransfer(msg.sender, own.thawing);
    }

    // -------------------------------------------------------------- node keys

    /// @inheritdoc IStakingRegistry
    function authorize(address nodeKey, uint256 deadline, bytes calldata signature) external {
        require(nodeKey != address(0), ZeroAddress());
        require(block.timestamp <= deadline, ConsentExpired(deadline));
        NodeKey memory known = _nodeKeys[nodeKey];
        require(
            known.operator == address(0) || (known.operator == msg.sender && !known.authorized),
            NodeKeyTaken(known.operator)
        );
        (uint8 v, bytes32 r, bytes32 s) = ECDSA.parseCalldata(signature);
        (address recovered,,) = ECDSA.tryRecover(authorizeDigest(msg.sender, nodeKey, deadline), v, r, s);
        require(recovered == nodeKey, BadConsent(nodeKey));

        _nodeKeys[nodeKey] = NodeKey({operator: msg.sender, authorized: true});

        emit Authorized(msg.sender, nodeKey);
    }

    /// @inheritdoc IStakingRegistry
    function revoke(address nodeKey) external {
        address operator = operatorOf(nodeKey);
        require(operator != address(0) && (msg.sender == operator || msg.sender == nodeKey), NotOperator());

        _nodeKeys[nodeKey].authorized = false;

        emit Revoked(operator, nodeKey);
    }

    // --------------------------------------------------------------- slashing

    /// @inheritdoc IStakingRegistry
    function slash(address operator, uint96 requested, address reporter, uint96 reward)
        external
        returns (uint96 taken)
    {
        require(isSlasher[msg.sender], NotSlasher());
        Stake memory own = stakes[operator];
        uint96 fromActive = uint96(Math.min(requested, own.active));
        uint96 fromThawing = uint96(Math.min(requested - fromActive, own.thawing));
        taken = fromActive + fromThawing;
        uint96 rewarded = reporter == address(0) ? 0 : uint96(Math.min(reward, taken / 2));
        uint96 burned = taken - rewarded;

        own.active -= fromActive;
        own.thawing -= fromThawing;
        stakes[operator] = own;
        if (rewarded != 0) {
            rewards[reporter] = Reward({
                amount: rewards[reporter].amount + rewarded,
                claimableAt: uint40(block.timestamp) + unbonding
            });
        }

        emit Slashed(operator, reporter, requested, rewarded, burned);
        token.burn(burned);
    }

    /// @inheritdoc IStakingRegistry
    function claimRewards() external {
        Reward memory due = rewards[msg.sender];
        require(due.amount != 0, NothingToClaim());
        require(block.timestamp >= due.claimableAt, RewardsLocked(due.claimableAt));

        delete rewards[msg.sender];

        emit RewardsClaimed(msg.sender, due.amount);
        token.safeTransfer(msg.sender, due.amount);
    }

    /// @inheritdoc IStakingRegistry
    function setSlashers(address[] calldata contracts) external {
        require(msg.sender == deployer, NotDeployer());
        require(_slashers.length == 0, SlashersAlreadySet());
        require(contracts.length != 0, NoSlashers());

        _slashers = contracts;
        for (uint256 i; i < contracts.length; ++i) {
            require(contracts[i] != address(0), ZeroAddress());
            isSlasher[contracts[i]] = true;
        }

        emit SlashersSet(contracts);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IStakingRegistry
    function slashers() external view returns (address[] memory) {
        return _slashers;
    }

    /// @inheritdoc IStakingRegistry
    function operatorOf(address nodeKey) public view returns (address) {
        NodeKey memory known = _nodeKeys[nodeKey];
        return known.authorized ? known.operator : address(0);
    }

    /// @inheritdoc IStakingRegistry
    function answersFor(address nodeKey) external view returns (address) {
        return _nodeKeys[nodeKey].operator;
    }

    /// @inheritdoc IStakingRegistry
    function isEligible(address nodeKey) external view returns (bool) {
        address operator = operatorOf(nodeKey);
        return operator != address(0) && stakes[operator].active >= minStake;
    }

    /// @inheritdoc IStakingRegistry
    function authorizeDigest(address operator, address nodeKey, uint256 deadline) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(AUTHORIZE_TYPEHASH, operator, nodeKey, deadline)));
    }

    /// @inheritdoc IStakingRegistry
    function DOMAIN_SEPARATOR() external view returns (bytes32) {
        return _domainSeparatorV4();
    }
}
