// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title HyperCluster Token
/// @notice The money of the market: ERC-20 with 18 decimals, EIP-2612 permits and burning.
/// @dev The whole supply is minted once and fits 96 bits. No sum of balances can therefore overflow the uint96
/// amounts that the other contracts pack into one storage slot.
contract HyperToken is ERC20, ERC20Permit, ERC20Burnable {
    /// @notice The supply does not fit 96 bits.
    error SupplyTooLarge(uint256 supply);

    /// @param holder Receives the whole supply.
    /// @param supply Amount in wei, at most 2^96 - 1.
    constructor(address holder, uint256 supply) ERC20("HyperCluster Token", "HCT") ERC20Permit("HyperCluster Token") {
        require(supply <= type(uint96).max, SupplyTooLarge(supply));
        _mint(holder, supply);
    }
}
