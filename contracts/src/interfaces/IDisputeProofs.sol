// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputes} from "./IDisputes.sol";

/// @title Two statements of one node key that contradict each other; see {IDisputes}
/// @dev Holds no tokens.
interface IDisputeProofs is IDisputes {
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
    /// @notice The rows are close enough to be both within the tolerance of one.
    error RowsAgree();

    /// @notice Punishes a provider that signed two receipts for one step of a stage, whatever they differ in: with the same
    /// rows and another history a second receipt would be evidence that fits no transcript. Whoever submits is rewarded.
    /// @dev No age limit: stake that is there can be taken. One fault per signer, stage and step: a proof that found less
    /// at stake can be submitted again for the rest, so that an operator cannot burn it on a stake that it ran down.
    /// @param signatureA Signature of `a`; so for `b`.
    /// @custom:warning A pending proof can be copied, and the reward with it. The fault is punished all the same.
    function proveEquivocation(
        bytes32 stageHash,
        Receipt calldata a,
        Signature calldata signatureA,
        Receipt calldata b,
        Signature calldata signatureB
    ) external;

    /// @notice Punishes a verifier that passed two outputs of one input that cannot both be right: in one row their
    /// distance is more than 2.5 times its tolerance, the larger of the two, of their root-sum-square length. Whoever
    /// submits is rewarded.
    /// @dev One fault per signer and input, as above. A verifier that passes only rows within its tolerance of its own
    /// cannot be caught.
    /// @param signatureA Signature of `a`; so for `b`.
    /// @param row Number of the row that differs; `rowA` under `a.outRoot`, `rowB` under `b.outRoot`.
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
    ) external;

    /// @notice Whether the node was punished for two receipts of a step.
    function isEquivocator(address node, bytes32 stageHash, uint32 seq) external view returns (bool);

    /// @notice Whether the verifier was punished for two passes of an input.
    function isContradictor(address node, bytes32 inRoot) external view returns (bool);

    /// @notice EIP-712 hashStruct of a stage.
    function stageHashOf(Stage calldata stage) external pure returns (bytes32);

    /// @notice EIP-712 hash that a provider signs for a step.
    function receiptDigest(bytes32 stageHash, Receipt calldata receipt) external view returns (bytes32);

    /// @notice EIP-712 hash that a verifier signs for a transcript.
    function verdictDigest(Verdict calldata verdict) external view returns (bytes32);
}
