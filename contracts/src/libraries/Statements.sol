// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputes} from "../interfaces/IDisputes.sol";

/// @title EIP-712 hashStruct of what node keys sign
library Statements {
    bytes32 private constant STAGE_TYPEHASH = keccak256(
        "Stage(bytes16 session,bytes16 nonce,bytes32 channelId,bytes32 modelId,uint32 layerStart,uint32 layerStop,uint8 wireDtype,bytes32 profile)"
    );
    bytes32 private constant RECEIPT_TYPEHASH = keccak256(
        "Receipt(Stage stage,uint32 seq,uint32 position,uint32 tokens,uint32 outputs,bytes32 inRoot,bytes32 outRoot,bytes32 previous,uint40 issued)Stage(bytes16 session,bytes16 nonce,bytes32 channelId,bytes32 modelId,uint32 layerStart,uint32 layerStop,uint8 wireDtype,bytes32 profile)"
    );
    bytes32 private constant VERDICT_TYPEHASH = keccak256(
        "Verdict(bytes32 modelId,uint32 layerStart,uint32 layerStop,uint8 wireDtype,bool tail,bytes32 profile,bytes32 inRoot,bytes32 outRoot,uint32 tokens,uint32 outputs,uint8 finding,uint32 tolerance,bytes32 fingerprint,bytes32 job,uint40 issued)"
    );

    // ABI and EIP-712 encode all these fields alike: one word each, bytes16 at its left. So a struct is hashed as it lies
    // in calldata. A field with dirty upper bits gives a hash that nobody signs as this type, and whoever reads the
    // field reverts.

    function hash(IDisputes.Stage calldata stage) internal pure returns (bytes32 digest) {
        bytes32 typehash = STAGE_TYPEHASH;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typehash)
            calldatacopy(add(free, 0x20), stage, 0x100)
            digest := keccak256(free, 0x120)
        }
    }

    function hash(IDisputes.Receipt calldata receipt, bytes32 stageHash) internal pure returns (bytes32 digest) {
        bytes32 typehash = RECEIPT_TYPEHASH;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typehash)
            mstore(add(free, 0x20), stageHash)
            calldatacopy(add(free, 0x40), receipt, 0x100)
            digest := keccak256(free, 0x140)
        }
    }

    function hash(IDisputes.Verdict calldata verdict) internal pure returns (bytes32 digest) {
        bytes32 typehash = VERDICT_TYPEHASH;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typehash)
            calldatacopy(add(free, 0x20), verdict, 0x1e0)
            digest := keccak256(free, 0x200)
        }
    }

    /// @dev One step of one signer, for which there is one receipt.
    function step(address node, bytes32 stageHash, uint32 seq) internal pure returns (bytes32) {
        return keccak256(abi.encode(node, stageHash, seq));
    }
}
