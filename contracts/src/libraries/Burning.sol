// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {HyperToken} from "../HyperToken.sol";

/// @title Taking tokens out of circulation, whatever token they are
library Burning {
    using SafeERC20 for HyperToken;

    /// @dev Nobody has a key to it.
    address private constant NOWHERE = 0x000000000000000000000000000000000000dEaD;

    /// @notice Burns tokens of the calling contract. A token that has no `burn`, or one that does nothing (as where a
    /// fallback answers), is sent where nobody gets at it.
    function burnOwn(HyperToken token, uint256 amount) internal {
        if (amount == 0) return;
        uint256 kept = token.balanceOf(address(this)) - amount;
        try token.burn(amount) {} catch {}
        uint256 rest = token.balanceOf(address(this)) - kept;
        if (rest != 0) token.safeTransfer(NOWHERE, rest);
    }
}
