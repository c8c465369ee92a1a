// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IPaymentChannels} from "../interfaces/IPaymentChannels.sol";

/// @dev The figures of a channel in one word, and so in one storage access:
/// status (8 bits) | closeAt (40) | deposit (96) | settled (96).
type Figures is uint256;

using FiguresLibrary for Figures global;

/// @dev Packs the figures of a channel. All zero is a channel that was never opened.
function pack(uint96 settled, uint96 deposit, uint40 closeAt, IPaymentChannels.Status status) pure returns (Figures) {
    return Figures.wrap(
        uint256(settled) | uint256(deposit) << 96 | uint256(closeAt) << 192 | uint256(status) << 232
    );
}

/// @title Fields of {Figures}
library FiguresLibrary {
    function settled(Figures figures) internal pure returns (uint96) {
        return uint96(Figures.unwrap(figures));
    }

    function deposit(Figures figures) internal pure returns (uint96) {
        return uint96(Figures.unwrap(figures) >> 96);
    }

    function closeAt(Figures figures) internal pure returns (uint40) {
        return uint40(Figures.unwrap(figures) >> 192);
    }

    function isUnused(Figures figures) internal pure returns (bool) {
        return Figures.unwrap(figures) == 0;
    }

    function isOpen(Figures figures) internal pure returns (bool) {
        return Figures.unwrap(figures) >> 232 == uint256(IPaymentChannels.Status.Open);
    }

    function status(Figures figures) internal pure returns (IPaymentChannels.Status) {
        return IPaymentChannels.Status(uint8(Figures.unwrap(figures) >> 232));
    }
}
