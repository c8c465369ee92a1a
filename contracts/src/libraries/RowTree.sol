// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Merkle trees over rows: RFC 9162, section 2.1, with SHA-256
/// @dev A leaf is sha256(0x00 || row), a node sha256(0x01 || left || right); a tree is split at the largest power of
/// two below its size. The prefixes keep a node from passing for a row.
library RowTree {
    /// @notice Whether `row` is row `index` of the `size` rows under `root` (RFC 9162, 2.1.3.2).
    /// @param proof The siblings on the way to the root, the nearest first.
    function holds(bytes32 root, uint256 size, uint256 index, bytes calldata row, bytes32[] calldata proof)
        internal
        pure
        returns (bool)
    {
        if (index >= size) return false;
        uint256 last = size - 1;
        bytes32 found = sha256(bytes.concat(bytes1(0x00), row));
        for (uint256 i; i < proof.length; ++i) {
            if (last == 0) return false;
            if (index & 1 == 1 || index == last) {
                found = sha256(bytes.concat(bytes1(0x01), proof[i], found));
                while (index & 1 == 0 && index != 0) {
                    index >>= 1;
                    last >>= 1;
                }
            } else {
                found = sha256(bytes.concat(bytes1(0x01), found, proof[i]));
            }
            index >>= 1;
            last >>= 1;
        }
        return last == 0 && found == root;
    }
}
