// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {Market} from "./Market.sol";

/// @title What is signed, hashed as EIP-712 says, against what the contracts hash
/// @dev Every field is set to something else than zero: one that a contract left out would show.
contract DigestsTest is Market(address(0)) {
    string private constant STAGE =
        "Stage(bytes16 session,bytes16 nonce,bytes32 channelId,bytes32 modelId,uint32 layerStart,uint32 layerStop,uint8 wireDtype,bytes32 profile)";
    string private constant RECEIPT =
        "Receipt(Stage stage,uint32 seq,uint32 position,uint32 tokens,uint32 outputs,bytes32 inRoot,bytes32 outRoot,bytes32 previous,uint40 issued)";
    string private constant VERDICT =
        "Verdict(bytes32 modelId,uint32 layerStart,uint32 layerStop,uint8 wireDtype,bool tail,bytes32 profile,bytes32 inRoot,bytes32 outRoot,uint32 tokens,uint32 outputs,uint8 finding,uint32 tolerance,bytes32 fingerprint,bytes32 job,uint40 issued)";

    function test_a_stage() external view {
        require(proofs.stageHashOf(_stage()) == keccak256(abi.encode(keccak256(bytes(STAGE)), _stage())), "stage");
    }

    function test_a_receipt() external view {
        bytes32 stageHash = proofs.stageHashOf(_stage());
        IDisputes.Receipt memory receipt = IDisputes.Receipt(1, 2, 3, 4, "in", "out", "previous", 5);
        bytes32 typehash = keccak256(bytes.concat(bytes(RECEIPT), bytes(STAGE)));
        bytes32 digest = _digest(cases.DOMAIN_SEPARATOR(), keccak256(abi.encode(typehash, stageHash, receipt)));
        require(proofs.receiptDigest(stageHash, receipt) == digest, "receipt");
    }

    function test_a_verdict() external view {
        IDisputes.Verdict memory verdict =
            IDisputes.Verdict("model", 1, 2, 3, true, "profile", "in", "out", 4, 5, 6, 7, "fingerprint", "job", 8);
        bytes32 structHash = keccak256(abi.encode(keccak256(bytes(VERDICT)), verdict));
        require(proofs.verdictDigest(verdict) == _digest(cases.DOMAIN_SEPARATOR(), structHash), "verdict");
    }

    function test_a_voucher() external view {
        bytes32 typehash = keccak256("Voucher(bytes32 channelId,uint96 cumulative)");
        bytes32 structHash = keccak256(abi.encode(typehash, bytes32("channel"), uint96(1)));
        bytes32 digest = _digest(channels.DOMAIN_SEPARATOR(), structHash);
        require(channels.voucherDigest("channel", 1) == digest, "voucher");
    }

    function test_consent() external view {
        bytes32 typehash = keccak256("Authorize(address operator,address nodeKey,uint256 deadline)");
        bytes32 structHash = keccak256(abi.encode(typehash, address(1), address(2), uint256(3)));
        bytes32 digest = _digest(registry.DOMAIN_SEPARATOR(), structHash);
        require(registry.authorizeDigest(address(1), address(2), 3) == digest, "consent");
    }

    function _stage() private pure returns (IDisputes.Stage memory) {
        return IDisputes.Stage("session", "nonce", "channel", "model", 1, 2, 3, "profile");
    }

    function _digest(bytes32 domain, bytes32 structHash) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }
}
