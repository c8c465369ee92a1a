// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

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

    mapping(bytes32 key => bool) private _equivocations;

    /// @inheritdoc IDisputeProofs
    mapping(address node => mapping(bytes32 inRoot => bool)) public isContradictor;

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
        require(a.seq == b.seq && (a.inRoot != b.inRoot || a.outRoot != b.outRoot), NotEquivocal());
        address node = _signer(a.hash(stageHash), signatureA);
        _sameSigner(node, b.hash(stageHash), signatureB);
        address operator = _operator(node);
        bytes32 key = Statements.step(node, stageHash, a.seq);
        require(!_equivocations[key], AlreadyProven());

        _equivocations[key] = true;

        emit EquivocationProven(node, operator, stageHash, a.seq, msg.sender, _punish(operator));
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
        require(!isContradictor[node][a.inRoot], AlreadyProven());
        require(RowTree.holds(a.outRoot, a.outputs, row, rowA, proofA), BadProof());
        require(RowTree.holds(b.outRoot, b.outputs, row, rowB, proofB), BadProof());
        require(Floats.differ(rowA, rowB, a.wireDtype), RowsAgree());

        isContradictor[node][a.inRoot] = true;

        emit ContradictionProven(node, operator, a.inRoot, msg.sender, _punish(operator));
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IDisputeProofs
    function isEquivocator(address node, bytes32 stageHash, uint32 seq) external view returns (bool) {
        return _equivocations[Statements.step(node, stageHash, seq)];
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

    /// @dev Takes a fault that was proven, with the reporter's part. A proof is not used up on an empty stake.
    function _punish(address operator) private returns (uint96 taken) {
        taken = registry.slash(operator, fault, msg.sender, reward);
        require(taken != 0, NothingAtStake(operator));
    }

    function _sameSigner(address node, bytes32 structHash, Signature calldata signature) private view {
        address other = _signer(structHash, signature);
        require(other == node, DifferentSigners(node, other));
    }

    function _contradict(Verdict calldata a, Verdict calldata b) private pure returns (bool) {
        return a.finding == 1 && b.finding == 1 && !a.tail && !b.tail && a.modelId == b.modelId
            && a.layerStart == b.layerStart && a.layerStop == b.layerStop && a.wireDtype == b.wireDtype
            && a.inRoot == b.inRoot && a.tokens == b.tokens && a.outputs == b.outputs && a.outRoot != b.outRoot;
    }
}
