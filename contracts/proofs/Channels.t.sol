// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IPaymentChannels} from "../src/interfaces/IPaymentChannels.sol";
import {PaymentChannels} from "../src/PaymentChannels.sol";
import {Proof} from "./Stub.sol";

/// @title Settling and withdrawing, for all amounts, callers, signatures and times
/// @dev Channels have one payer, payee, signer and salt: nothing is computed with these but the id.
contract ChannelsProof is Proof {
    uint40 private constant GRACE = 1 days;
    address private constant PAYER = address(0x1111);
    address private constant PAYEE = address(0x2222);
    address private constant SIGNER = address(0x3333);

    PaymentChannels private channels = new PaymentChannels(address(token), GRACE);
    IPaymentChannels.Channel private channel = IPaymentChannels.Channel(PAYER, PAYEE, SIGNER, 0);

    /// @dev What a voucher pays is what it says beyond what was paid, never more than the deposit, and stays written down.
    function check_settle(uint96 deposit, uint96 first, uint96 second, bytes32[2] calldata r, bytes32[2] calldata vs)
        external
    {
        _open(deposit);
        _settle(deposit, 0, first, r[0], vs[0]);
        _settle(deposit, first, second, r[1], vs[1]);
        assert(second > first);
        assert(token.balanceOf(PAYEE) == second);
    }

    function _settle(uint96 deposit, uint96 before, uint96 cumulative, bytes32 r, bytes32 vs) private {
        channels.settle(channel, cumulative, abi.encodePacked(r, vs));
        (uint96 settled, uint96 held,, IPaymentChannels.Status status) = channels.channels(channels.channelIdOf(channel));
        assert(cumulative > before && cumulative <= deposit);
        assert(settled == cumulative && held == deposit && status == IPaymentChannels.Status.Open);
        assert(token.balanceOf(PAYEE) == cumulative);
        assert(token.balanceOf(address(channels)) == deposit - cumulative);
    }

    /// @dev Who takes the rest of a channel is its payer, asked for it a whole grace period ago, and gets what is left.
    function check_withdraw(uint96 deposit, address caller, uint40 asked, uint40 later, bool asks) external {
        vm.assume(asked < 2 ** 39 && later >= asked);
        _open(deposit);
        vm.warp(asked);
        if (asks) {
            vm.prank(PAYER);
            channels.requestClose(channel);
        }
        vm.warp(later);
        vm.prank(caller);
        try channels.withdraw(channel) {
            assert(caller == PAYER && asks && later >= asked + GRACE);
            assert(token.balanceOf(PAYER) == deposit && token.balanceOf(address(channels)) == 0);
        } catch {
            assert(caller != PAYER || !asks || later < asked + GRACE);
            assert(token.balanceOf(PAYER) == 0 && token.balanceOf(address(channels)) == deposit);
        }
    }

    function _open(uint96 deposit) private {
        vm.assume(deposit != 0);
        vm.prank(PAYER);
        channels.open(PAYEE, SIGNER, 0, deposit);
    }
}
