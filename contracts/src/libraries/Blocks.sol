// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Hashes and randomness of earlier blocks
library Blocks {
    /// @dev The contract of EIP-2935, which knows 8191 blocks; the opcode knows 256.
    address private constant HISTORY = 0x0000F90827F1C53a10cb7A02335B175320002935;
    /// @dev Fields of a header before its `mixHash`, in which the randomness of the block has been since the merge.
    uint256 private constant BEFORE = 13;

    /// @notice The header is not encoded as those of Ethereum are.
    error BadHeader();

    /// @notice Hash of an earlier block, or zero where it is known no longer.
    function hashOf(uint256 number) internal view returns (bytes32 hash) {
        hash = blockhash(number);
        if (hash != 0) return hash;
        (bool answered, bytes memory told) = HISTORY.staticcall(abi.encode(number));
        if (answered && told.length == 32) hash = abi.decode(told, (bytes32));
    }

    /// @notice Randomness (EIP-4399) of the block that a header in RLP belongs to. Whose header it is is for the caller to
    /// check; one that does not hold the field reverts.
    function randomness(bytes calldata header) internal pure returns (bytes32) {
        // A list of more than 255 and less than 65536 bytes, then one text for each field.
        require(header.length > 3 && header[0] == 0xf9, BadHeader());
        uint256 place = 3;
        for (uint256 i; i < BEFORE; ++i) {
            uint256 first = uint8(header[place]);
            if (first < 0x80) place += 1;
            else if (first < 0xb8) place += first - 0x7f;
            // The filter of logs has 256 bytes, and so two bytes for its length.
            else place += 3 + (uint256(uint8(header[place + 1])) << 8 | uint8(header[place + 2]));
        }
        require(header[place] == 0xa0 && header.length >= place + 33, BadHeader());
        return bytes32(header[place + 1:place + 33]);
    }
}
