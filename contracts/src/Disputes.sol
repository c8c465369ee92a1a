// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC5267} from "@openzeppelin/contracts/interfaces/IERC5267.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {HyperToken} from "./HyperToken.sol";
import {IDisputes} from "./interfaces/IDisputes.sol";
import {IStakingRegistry} from "./interfaces/IStakingRegistry.sol";

/// @title What the contracts of disputes share: who signed a statement, and who answers for it; see {IDisputes}
/// @dev There are three of them, each with the power to slash, instead of one that the others report to: none calls
/// another after its deployment, so a flaw in one reaches no bond or credit of another, and no fault costs the gas of a
/// detour. The terms, the token and the registry are those of the contract of cases, from which the other two take them
/// when they are deployed: they cannot differ.
abstract contract Disputes is IDisputes, IERC5267 {
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    string private constant NAME = "HyperCluster Disputes";
    string private constant VERSION = "1";

    /// @inheritdoc IDisputes
    HyperToken public immutable token;

    /// @inheritdoc IDisputes
    IStakingRegistry public immutable registry;

    uint96 internal immutable fault;
    uint96 internal immutable reward;
    uint40 internal immutable skew;
    uint40 internal immutable evidenceWindow;

    address private immutable verifyingContract;
    uint256 private immutable chainId = block.chainid;
    bytes32 private immutable separator;

    /// @param verifyingContract_ The contract of cases, in whose domain everything is signed.
    constructor(HyperToken token_, IStakingRegistry registry_, address verifyingContract_, Parameters memory p) {
        token = token_;
        registry = registry_;
        fault = p.fault;
        reward = uint96(uint256(p.fault) * p.rewardBps / 10_000);
        skew = p.skew;
        evidenceWindow = p.evidenceWindow;
        verifyingContract = verifyingContract_;
        separator = _separate(verifyingContract_);
    }

    /// @inheritdoc IDisputes
    function DOMAIN_SEPARATOR() external view returns (bytes32) {
        return _domain();
    }

    /// @inheritdoc IERC5267
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chain,
            address contract_,
            bytes32 salt,
            uint256[] memory extensions
        )
    {
        return (hex"0f", NAME, VERSION, block.chainid, verifyingContract, 0, new uint256[](0));
    }

    /// @dev What is signed of a statement.
    function _digest(bytes32 structHash) internal view returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(_domain(), structHash);
    }

    /// @dev Zero for a signature of nobody.
    function _signer(bytes32 structHash, Signature calldata signature) internal view returns (address signer) {
        (signer,,) = ECDSA.tryRecover(_digest(structHash), signature.r, signature.vs);
    }

    /// @dev The registry knows nobody at the zero address.
    function _operator(address node) internal view returns (address operator) {
        operator = registry.answersFor(node);
        require(operator != address(0), UnknownNode(node));
    }

    /// @dev The operator of a node whose receipt money is now put on. Refuses what could not be decided in time
    /// or not be punished: an accuser then keeps its bond.
    /// @param issued When the receipt became evidence.
    function _accused(address node, uint256 issued) internal view returns (address operator) {
        operator = _operator(node);
        (uint96 active, uint96 thawing,) = registry.stakes(operator);
        require(active != 0 || thawing != 0, NothingAtStake(operator));
        require(registry.isSlasher(address(this)), NotSlasher());
        require(
            issued <= block.timestamp + skew && block.timestamp <= issued + evidenceWindow,
            StaleReceipt(uint40(issued))
        );
    }

    /// @dev An allowance may exist without this permit, or because somebody else submitted it.
    function _permit(uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) internal {
        try token.permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
    }

    /// @dev On a chain that forked off this one nothing counts that was signed here.
    function _domain() private view returns (bytes32) {
        return block.chainid == chainId ? separator : _separate(verifyingContract);
    }

    function _separate(address verifyingContract_) private view returns (bytes32) {
        return keccak256(
            abi.encode(
                DOMAIN_TYPEHASH, keccak256(bytes(NAME)), keccak256(bytes(VERSION)), block.chainid, verifyingContract_
            )
        );
    }
}
