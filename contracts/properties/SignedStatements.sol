// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {Market} from "./Market.sol";

/// @title Stages, receipts and verdicts, and who signed them
abstract contract SignedStatements is Market {
    /// @dev One value each, and so a row, of binary32: one and two.
    bytes internal constant ROW = hex"0000803f";
    bytes internal constant OTHER_ROW = hex"00000040";

    /// @dev What decides how a receipt and its stage read. `twist` changes a field of the receipt that is not its number.
    struct Slot {
        address node;
        uint256 stage;
        uint32 seq;
        uint8 twist;
        uint40 issued;
    }

    function _stage(uint256 number) internal pure returns (IDisputes.Stage memory) {
        return IDisputes.Stage({
            session: bytes16(uint128(number)),
            nonce: "nonce",
            channelId: "channel",
            modelId: "model",
            layerStart: 0,
            layerStop: 4,
            wireDtype: 1,
            profile: "profile"
        });
    }

    function _receipt(Slot memory slot) internal pure returns (IDisputes.Receipt memory r) {
        r = IDisputes.Receipt({
            seq: slot.seq,
            position: slot.seq,
            tokens: 1,
            outputs: 1,
            inRoot: _leaf(ROW),
            outRoot: _leaf(ROW),
            previous: "previous",
            issued: slot.issued
        });
        if (slot.twist == 1) r.inRoot = _leaf(OTHER_ROW);
        if (slot.twist == 2) r.outRoot = _leaf(OTHER_ROW);
        if (slot.twist == 3) r.previous = "other";
    }

    function _signReceipt(Slot memory slot) internal view returns (IDisputes.Signature memory) {
        bytes32 stageHash = proofs.stageHashOf(_stage(slot.stage));
        (bytes32 r, bytes32 vs) = _sign(slot.node, proofs.receiptDigest(stageHash, _receipt(slot)));
        return IDisputes.Signature(r, vs);
    }

    /// @dev A pass of one row of output for the input `number`.
    function _verdict(uint256 number, bytes memory row, uint8 finding) internal view returns (IDisputes.Verdict memory) {
        return IDisputes.Verdict({
            modelId: "model",
            layerStart: 0,
            layerStop: 4,
            wireDtype: 1,
            tail: false,
            profile: "profile",
            inRoot: bytes32(number),
            outRoot: _leaf(row),
            tokens: 1,
            outputs: 1,
            finding: finding,
            tolerance: 10_000,
            fingerprint: "fingerprint",
            job: "job",
            issued: uint40(time)
        });
    }

    function _signVerdict(address node, IDisputes.Verdict memory verdict)
        internal
        view
        returns (IDisputes.Signature memory)
    {
        (bytes32 r, bytes32 vs) = _sign(node, proofs.verdictDigest(verdict));
        return IDisputes.Signature(r, vs);
    }

    function _leaf(bytes memory row) private pure returns (bytes32) {
        return sha256(bytes.concat(bytes1(0x00), row));
    }
}
