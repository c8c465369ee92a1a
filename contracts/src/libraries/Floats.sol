// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputeProofs} from "../interfaces/IDisputeProofs.sol";

/// @title Rows of floating-point numbers, as integers
/// @dev Rows are little-endian IEEE 754: binary32 or binary16. All numbers of both rows are scaled by one power of two,
/// so that the largest has 64 bits. Numbers 2^40 times smaller than it, and more, lose their last bits; next to the
/// largest they do not matter.
library Floats {
    uint8 internal constant F32 = 1;
    uint8 internal constant F16 = 2;
    /// @dev In millionths, as tolerances are.
    uint256 internal constant TENTH = 100_000;

    uint256 private constant ODD_BYTES = 0xFF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00;
    uint256 private constant ODD_PAIRS = 0xFFFF0000FFFF0000FFFF0000FFFF0000FFFF0000FFFF0000FFFF0000FFFF0000;

    /// @dev Where the fields of an encoding are.
    struct Format {
        uint256 bits;
        uint256 fraction;
        uint256 magnitude;
    }

    /// @notice Whether two rows are too far apart to be both within a tolerance t of a third one:
    /// |x - y|^2 > (2.5 t)^2 (|x|^2 + |y|^2).
    /// @dev Rows that are within t, a tenth at most, of a third one have |x - y|^2 <= 4 t^2 of its square on the left, and
    /// 6.25 t^2 * 2 (1 - t)^2 >= 10 t^2 of it on the right. Strict, so that rows of zeros, whatever their signs, do not
    /// differ.
    /// @param encoding 1 for binary32, 2 for binary16. Reverts with BadRow on anything else, and on rows that are not of
    /// that encoding.
    /// @param tolerance t in millionths, at most TENTH.
    function differ(bytes calldata x, bytes calldata y, uint8 encoding, uint256 tolerance)
        internal
        pure
        returns (bool)
    {
        require(encoding == F32 || encoding == F16, IDisputeProofs.BadRow());
        Format memory format = encoding == F32
            ? Format({bits: 32, fraction: 23, magnitude: 0x7FFFFFFF})
            : Format({bits: 16, fraction: 10, magnitude: 0x7FFF});
        require(x.length == y.length && x.length != 0 && x.length % (format.bits / 8) == 0, IDisputeProofs.BadRow());
        uint256 top = _exponent(_largest(x, y, format), format);

        uint256 distance;
        uint256 length;
        unchecked {
            // Values have 64 bits at most and the factors 43, so the sums fit for rows of any length that calldata can have.
            for (uint256 i; i < x.length; i += 32) {
                uint256 xs = _load(x, i, format);
                uint256 ys = _load(y, i, format);
                uint256 end = _end(x.length - i);
                for (uint256 shift = 256; shift > end;) {
                    shift -= format.bits;
                    int256 a = _scaled(xs >> shift, top, format);
                    int256 b = _scaled(ys >> shift, top, format);
                    distance += uint256((a - b) * (a - b));
                    length += uint256(a * a) + uint256(b * b);
                }
            }
            return 4e12 * distance > 25 * tolerance * tolerance * length;
        }
    }

    /// @dev The largest magnitude of both rows; magnitudes order as the numbers they encode. Reverts on NaN and infinity.
    function _largest(bytes calldata x, bytes calldata y, Format memory format) private pure returns (uint256 largest) {
        uint256 magnitude = format.magnitude;
        unchecked {
            for (uint256 i; i < x.length; i += 32) {
                uint256 xs = _load(x, i, format);
                uint256 ys = _load(y, i, format);
                uint256 end = _end(x.length - i);
                for (uint256 shift = 256; shift > end;) {
                    shift -= format.bits;
                    uint256 a = xs >> shift & magnitude;
                    uint256 b = ys >> shift & magnitude;
                    if (a > largest) largest = a;
                    if (b > largest) largest = b;
                }
            }
            // An exponent of all ones.
            require(largest >> format.fraction != magnitude >> format.fraction, IDisputeProofs.BadRow());
        }
    }

    /// @dev Values of up to 32 bytes of a row, the first in the highest bits, in the byte order of this machine.
    function _load(bytes calldata row, uint256 offset, Format memory format) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := calldataload(add(row.offset, offset))
        }
        unchecked {
            word = (word & ODD_BYTES) >> 8 | (word << 8 & ODD_BYTES);
            if (format.bits == 32) word = (word & ODD_PAIRS) >> 16 | (word << 16 & ODD_PAIRS);
        }
    }

    /// @dev The lowest bit of a word that belongs to the row, `left` bytes before its end.
    function _end(uint256 left) private pure returns (uint256) {
        unchecked {
            return left < 32 ? 256 - 8 * left : 0;
        }
    }

    /// @dev Subnormal numbers have the exponent of the smallest normal ones.
    function _exponent(uint256 magnitude, Format memory format) private pure returns (uint256 exponent) {
        exponent = magnitude >> format.fraction;
        if (exponent == 0) exponent = 1;
    }

    /// @dev The value in the lowest bits, scaled so that numbers with the exponent `top` have 40 more bits than their
    /// fraction.
    function _scaled(uint256 raw, uint256 top, Format memory format) private pure returns (int256 value) {
        unchecked {
            uint256 magnitude = raw & format.magnitude;
            uint256 exponent = magnitude >> format.fraction;
            uint256 fraction = magnitude & (1 << format.fraction) - 1;
            if (exponent == 0) exponent = 1;
            else fraction |= 1 << format.fraction;
            value = int256(fraction << 40 >> top - exponent);
            if (raw & (format.magnitude + 1) != 0) value = -value;
        }
    }
}
