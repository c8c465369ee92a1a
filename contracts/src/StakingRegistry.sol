// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {HyperToken} from "./HyperToken.sol";
import {IStakingRegistry} from "./interfaces/IStakingRegistry.sol";
import {Burning} from "./libraries/Burning.sol";
import {Dues} from "./libraries/Dues.sol";

/// @title StakingRegistry
/// @notice Stake of operators and the node keys they answer for; see {IStakingRegistry}.
contract StakingRegistry is IStakingRegistry, EIP712 {
    using SafeERC20 for HyperToken;
    using Burning for HyperToken;
    using Dues for mapping(address => Dues.Due);

    /// @dev One storage slot. `grown` is when stake was last added, in seconds modulo 2^24.
    struct Stake {
        uint96 active;
        uint96 thawing;
        uint40 thawEnd;
        uint24 grown;
    }

    /// @dev One storage slot. The operator stays when the key is revoked, with a share of zero.
    struct NodeKey {
        address operator;
        uint96 share;
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
    uint96 public immutable sessionStake;

    /// @inheritdoc IStakingRegistry
    mapping(address account => bool) public isSlasher;

    /// @inheritdoc IStakingRegistry
    mapping(address operator => uint96) public committed;

    mapping(address operator => Stake) private _stakes;
    mapping(address nodeKey => NodeKey) private _nodeKeys;
    mapping(address reporter => Dues.Due) private _rewards;
    address[] private _slashers;

    /// @param token_ HyperToken.
    /// @param unbonding_ Seconds that stake thaws; it must outlast every window in which a fault can be reported.
    /// @param minStake_ Backing in wei that makes a node key eligible.
    /// @param sessionStake_ Backing in wei for each session that a node key may offer.
    constructor(address token_, uint40 unbonding_, uint96 minStake_, uint96 sessionStake_)
        EIP712("HyperCluster StakingRegistry", "1")
    {
        require(token_ != address(0), ZeroAddress());
        require(sessionStake_ != 0, ZeroAmount());
        token = HyperToken(token_);
        unbonding = unbonding_;
        minStake = minStake_;
        sessionStake = sessionStake_;
    }

    // ------------------------------------------------------------------ stake

    /// @inheritdoc IStakingRegistry
    function stake(uint96 amount) public {
        require(amount != 0, ZeroAmount());

        Stake memory own = _stakes[msg.sender];
        own.active += amount;
        own.grown = uint24(block.timestamp);
        _stakes[msg.sender] = own;

        emit Staked(msg.sender, amount, own.active);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IStakingRegistry
    function stakeWithPermit(uint96 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external {
        try token.permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
        stake(amount);
    }

    /// @inheritdoc IStakingRegistry
    function unstake(uint96 amount) external {
        Stake memory own = _stakes[msg.sender];
        require(amount != 0, ZeroAmount());
        require(amount <= own.active, InsufficientStake(own.active));

        own.active -= amount;
        own.thawing += amount;
        own.thawEnd = uint40(block.timestamp) + unbonding;
        _stakes[msg.sender] = own;

        emit Unstaking(msg.sender, amount, own.thawing, own.thawEnd);
    }

    /// @inheritdoc IStakingRegistry
    function cancelUnstake() external {
        Stake memory own = _stakes[msg.sender];
        uint96 amount = own.thawing;
        require(amount != 0, NothingThawing());

        (own.active, own.thawing, own.thawEnd) = (own.active + amount, 0, 0);
        _stakes[msg.sender] = own;

        emit UnstakeCancelled(msg.sender, amount);
    }

    /// @inheritdoc IStakingRegistry
    function withdraw() external {
        Stake memory own = _stakes[msg.sender];
        uint96 amount = own.thawing;
        require(amount != 0, NothingThawing());
        require(block.timestamp >= own.thawEnd, StillThawing(own.thawEnd));

        (own.thawing, own.thawEnd) = (0, 0);
        _stakes[msg.sender] = own;

        emit Withdrawn(msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    // -------------------------------------------------------------- node keys

    /// @inheritdoc IStakingRegistry
    function authorize(address nodeKey, uint96 share, uint256 deadline, bytes calldata signature) external {
        require(nodeKey != address(0), ZeroAddress());
        require(share != 0, ZeroAmount());
        require(block.timestamp <= deadline, ConsentExpired(deadline));
        NodeKey memory known = _nodeKeys[nodeKey];
        require(
            known.operator == address(0) || (known.operator == msg.sender && known.share == 0),
            NodeKeyTaken(known.operator)
        );
        (uint8 v, bytes32 r, bytes32 s) = ECDSA.parseCalldata(signature);
        (address recovered,,) = ECDSA.tryRecover(authorizeDigest(msg.sender, nodeKey, deadline), v, r, s);
        require(recovered == nodeKey, BadConsent(nodeKey));

        _commit(msg.sender, 0, share);
        _nodeKeys[nodeKey] = NodeKey({operator: msg.sender, share: share});

        emit Authorized(msg.sender, nodeKey, share);
    }

    /// @inheritdoc IStakingRegistry
    function reshare(address nodeKey, uint96 share) external {
        require(share != 0, ZeroAmount());
        NodeKey memory known = _nodeKeys[nodeKey];
        require(known.operator == msg.sender && known.share != 0, NotOperator());

        _commit(msg.sender, known.share, share);
        _nodeKeys[nodeKey].share = share;

        emit Reshared(msg.sender, nodeKey, share);
    }

    /// @inheritdoc IStakingRegistry
    function revoke(address nodeKey) external {
        NodeKey memory known = _nodeKeys[nodeKey];
        require(
            known.share != 0 && (msg.sender == known.operator || msg.sender == nodeKey), NotOperator()
        );

        _commit(known.operator, known.share, 0);
        _nodeKeys[nodeKey].share = 0;

        emit Revoked(known.operator, nodeKey);
    }

    // --------------------------------------------------------------- slashing

    /// @inheritdoc IStakingRegistry
    function slash(address operator, uint96 requested, address reporter, uint96 reward)
        external
        returns (uint96 taken)
    {
        require(isSlasher[msg.sender], NotSlasher());
        Stake memory own = _stakes[operator];
        uint96 fromActive = uint96(Math.min(requested, own.active));
        uint96 fromThawing = uint96(Math.min(requested - fromActive, own.thawing));
        taken = fromActive + fromThawing;
        uint96 rewarded = reporter == address(0) ? 0 : uint96(Math.min(reward, taken / 2));
        uint96 burned = taken - rewarded;

        own.active -= fromActive;
        own.thawing -= fromThawing;
        _stakes[operator] = own;
        _rewards.add(reporter, rewarded, unbonding);

        emit Slashed(operator, reporter, requested, rewarded, burned);
        token.burnOwn(burned);
    }

    /// @inheritdoc IStakingRegistry
    function claimRewards() external {
        (uint96 amount, uint40 claimableAt) = _rewards.take(msg.sender, unbonding);
        require(amount != 0 || claimableAt != 0, NothingToClaim());
        require(amount != 0, RewardsLocked(claimableAt));

        emit RewardsClaimed(msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
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
    function stakes(address operator) external view returns (uint96 active, uint96 thawing, uint40 thawEnd) {
        Stake memory own = _stakes[operator];
        return (own.active, own.thawing, own.thawEnd);
    }

    /// @inheritdoc IStakingRegistry
    function slashers() external view returns (address[] memory) {
        return _slashers;
    }

    /// @inheritdoc IStakingRegistry
    function operatorOf(address nodeKey) external view returns (address) {
        return _working(_nodeKeys[nodeKey]);
    }

    /// @inheritdoc IStakingRegistry
    function answersFor(address nodeKey) external view returns (address) {
        return _nodeKeys[nodeKey].operator;
    }

    /// @inheritdoc IStakingRegistry
    function shareOf(address nodeKey) external view returns (uint96) {
        return _nodeKeys[nodeKey].share;
    }

    /// @inheritdoc IStakingRegistry
    function backingOf(address nodeKey) external view returns (uint96) {
        return _backing(_nodeKeys[nodeKey]);
    }

    /// @inheritdoc IStakingRegistry
    function isEligible(address nodeKey) external view returns (bool) {
        NodeKey memory known = _nodeKeys[nodeKey];
        return _eligible(known, _backing(known));
    }

    /// @inheritdoc IStakingRegistry
    function eligibility(address nodeKey) external view returns (bool eligible, uint24 grown) {
        NodeKey memory known = _nodeKeys[nodeKey];
        return (_eligible(known, _backing(known)), _stakes[known.operator].grown);
    }

    /// @inheritdoc IStakingRegistry
    function standings(address[] calldata nodeKeys) external view returns (Standing[] memory found) {
        found = new Standing[](nodeKeys.length);
        for (uint256 i; i < nodeKeys.length; ++i) {
            NodeKey memory known = _nodeKeys[nodeKeys[i]];
            uint96 backing = _backing(known);
            found[i] =
                Standing({operator: _working(known), backing: backing, eligible: _eligible(known, backing)});
        }
    }

    /// @inheritdoc IStakingRegistry
    function rewards(address reporter)
        external
        view
        returns (uint96 claimable, uint96 waiting, uint40 claimableAt)
    {
        return _rewards.figures(reporter, unbonding);
    }

    /// @inheritdoc IStakingRegistry
    function authorizeDigest(address operator, address nodeKey, uint256 deadline) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(AUTHORIZE_TYPEHASH, operator, nodeKey, deadline)));
    }

    /// @inheritdoc IStakingRegistry
    function DOMAIN_SEPARATOR() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    // --------------------------------------------------------------- internal

    /// @dev Changes one share of an operator. Only one that grows asks for stake: after a slash shares can be lowered.
    function _commit(address operator, uint96 before, uint96 share) private {
        uint256 others = committed[operator] - before;
        if (share > before) {
            uint256 active = _stakes[operator].active;
            require(others + share <= active, StakeCommitted(uint96(active > others ? active - others : 0)));
        }
        committed[operator] = uint96(others + share);
    }

    function _working(NodeKey memory known) private pure returns (address) {
        return known.share == 0 ? address(0) : known.operator;
    }

    /// @dev A key is tied to all of the minimum, and keeps its standing while three quarters of that are behind it: a fine or
    /// two do not end its work.
    function _eligible(NodeKey memory known, uint96 backing) private view returns (bool) {
        return backing != 0 && known.share >= minStake && uint256(backing) * 4 >= uint256(minStake) * 3;
    }

    /// @dev Where less is active than was tied to node keys, all of them have so much less behind them.
    function _backing(NodeKey memory known) private view returns (uint96) {
        if (known.share == 0) return 0;
        uint256 total = committed[known.operator];
        uint256 active = _stakes[known.operator].active;
        return active >= total ? known.share : uint96(known.share * active / total);
    }
}
