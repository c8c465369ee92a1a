// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Disputes} from "./Disputes.sol";
import {IDisputeCases} from "./interfaces/IDisputeCases.sol";
import {IDisputeProofs} from "./interfaces/IDisputeProofs.sol";
import {Floats} from "./libraries/Floats.sol";
import {RowTree} from "./libraries/RowTree.sol";
import {Statements} from "./libraries/Statements.sol";

/// @title DisputeProofs
/// @notice Two statements of one node key that contradict each other; see {IDisputeProofs}.
contract DisputeProofs is IDisputeProofs, Disputes {
    using Statements for Stage;
    using Statements for Receipt;
    using Statements for Verdict;

    /// @dev What was taken for a fault so far, by the key of what it is: a step, or an input.
    mapping(bytes32 key => uint96 taken) private _punished;

    /// @param cases The contract of cases: its terms, token, registry and EIP-712 domain hold here too.
    constructor(IDisputeCases cases)
        Disputes(cases.token(), cases.registry(), address(cases), cases.parameters())
    {}

    // ----------------------------------------------------------------- proofs

    /// @inheritdoc IDisputeProofs
    function proveEquivocation(
        bytes32 stageHash,
        Receipt calldata a,
        Signature calldata signatureA,
        Receipt calldata b,
        Signature calldata signatureB
    ) external {
        (bytes32 first, bytes32 second) = (a.hash(stageHash), b.hash(stageHash));
        require(a.seq == b.seq && first != second, NotEquivocal());
        address node = _signer(first, signatureA);
        _sameSigner(node, second, signatureB);
        address operator = _operator(node);
        bytes32 key = Statements.step(node, stageHash, a.seq);
        require(_punished[key] < fault, AlreadyProven());

        emit EquivocationProven(node, operator, stageHash, a.seq, msg.sender, _punish(operator, key));
    }

    /// @inheritdoc IDisputeProofs
    function proveContradiction(
        Verdict calldata a,
        Signature calldata signatureA,
        Verdict calldata b,
        Signature calldata signatureB,
        uint32 row,
        bytes calldata rowA,
        bytes32[] calldata proofA,
        bytes calldata rowB,
        bytes32[] calldata proofB
    ) external {
        require(_contradict(a, b), NotContradictory());
        address node = _signer(a.hash(), signatureA);
        _sameSigner(node, b.hash(), signatureB);
        address operator = _operator(node);
        bytes32 key = _inputKey(node, a.inRoot);
        require(_punished[key] < fault, AlreadyProven());
        require(RowTree.holds(a.outRoot, a.outputs, row, rowA, proofA), BadProof());
        require(RowTree.holds(b.outRoot, b.outputs, row, rowB, proofB), BadProof());
        require(Floats.differ(rowA, rowB, a.wireDtype, _tolerance(a, b)), RowsAgree());

        emit ContradictionProven(node, operator, a.inRoot, msg.sender, _punish(operator, key));
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IDisputeProofs
    function isEquivocator(address node, bytes32 stageHash, uint32 seq) external view returns (bool) {
        return _punished[Statements.step(node, stageHash, seq)] != 0;
    }

    /// @inheritdoc IDisputeProofs
    function isContradictor(address node, bytes32 inRoot) external view returns (bool) {
        return _punished[_inputKey(node, inRoot)] != 0;
    }

    /// @inheritdoc IDisputeProofs
    function stageHashOf(Stage calldata stage) external pure returns (bytes32) {
        return stage.hash();
    }

    /// @inheritdoc IDisputeProofs
    function receiptDigest(bytes32 stageHash, Receipt calldata receipt) external view returns (bytes32) {
        return _digest(receipt.hash(stageHash));
    }

    /// @inheritdoc IDisputeProofs
    function verdictDigest(Verdict calldata verdict) external view returns (bytes32) {
        return _digest(verdict.hash());
    }

    // --------------------------------------------------------------- internal

    /// @dev Takes what a fault that was proven still costs, with the reporter's part of that. So an operator cannot use a
    /// proof up on the little stake that it left for this. What was taken is known after the call only; the registry calls
    /// nobody but the token, which calls nobody.
    function _punish(address operator, bytes32 key) private returns (uint96 taken) {
        uint96 before = _punished[key];
        uint96 rest = fault - before;
        taken = registry.slash(operator, rest, msg.sender, uint96(uint256(reward) * rest / fault));
        require(taken != 0, NothingAtStake(operator));

        _punished[key] = before + taken;
    }

    /// @dev Shorter than what a step is hashed from, and so never the key of one.
    function _inputKey(address node, bytes32 inRoot) private pure returns (bytes32) {
        return keccak256(abi.encode(node, inRoot));
    }

    function _sameSigner(address node, bytes32 structHash, Signature calldata signature) private view {
        address other = _signer(structHash, signature);
        require(other == node, DifferentSigners(node, other));
    }

    /// @dev The larger one: a verifier that was calibrated anew between the two keeps to both.
    function _tolerance(Verdict calldata a, Verdict calldata b) private pure returns (uint256) {
        return Math.min(Math.max(a.tolerance, b.tolerance), Floats.TENTH);
    }

    function _contradict(Verdict calldata a, Verdict calldata b) private pure returns (bool) {
        return a.finding == 1 && b.finding == 1 && !a.tail && !b.tail && a.modelId == b.modelId
            && a.layerStart == b.layerStart && a.layerStop == b.layerStop && a.wireDtype == b.wireDtype
            && a.inRoot == b.inRoot && a.tokens == b.tokens && a.outputs == b.outputs && a.outRoot != b.outRoot;
    }
}
