// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IPaymentChannels} from "../src/interfaces/IPaymentChannels.sol";
import {Market} from "./Market.sol";

/// @title Payers, payees and strangers who call PaymentChannels in any order, beside a model of what must come of it
/// @dev After each call the contract's books are compared with the model: a difference reverts, and the run fails.
contract ChannelsHandler is Market {
    uint96 private constant CAP = 1000 * HCT;

    /// @dev What the model knows of a channel. `signed` is the largest voucher that its signer made.
    struct Known {
        IPaymentChannels.Channel channel;
        uint96 signed;
        uint96 deposit;
        uint96 settled;
        uint40 closeAt;
        bool ended;
    }

    /// @dev How settleBatch must end.
    struct Batch {
        address payee;
        bool valid;
        uint256 paid;
        uint256[] settled;
    }

    Known[] private _known;
    mapping(bytes32 id => bool) private _exists;
    address[4] private _payers;
    address[3] private _payees;
    address[3] private _signers;
    uint256 private _held;
    uint256 public moves;

    constructor() Market(address(0)) {
        for (uint256 i; i < 4; ++i) _payers[i] = _person(1e8 * uint256(HCT));
        for (uint256 i; i < 3; ++i) (_payees[i], _signers[i]) = (_person(1), _person(0));
    }

    modifier checked() {
        _;
        require(token.balanceOf(address(channels)) == _held, "PaymentChannels holds something else than the model");
    }

    // ------------------------------------------------------------------ actions

    /// @dev Sometimes just to the second in which a channel can be withdrawn.
    function pass(uint32 duration, uint16 which) external checked {
        uint256 closeAt = _known.length == 0 ? 0 : _known[which % _known.length].closeAt;
        _pass(closeAt > time ? closeAt - time : duration % 2 days);
    }

    function donate(uint8 payer, uint64 amount) external checked {
        vm.prank(_payers[payer % 4]);
        token.transfer(address(channels), amount);
        _held += amount;
    }

    function open(uint8 payer, uint8 payee, uint8 signer, uint96 deposit, bool again) external checked {
        IPaymentChannels.Channel memory c = IPaymentChannels.Channel(
            _payers[payer % 4], _payees[payee % 3], _signers[signer % 3], bytes32(_known.length)
        );
        if (again && _known.length != 0) c = _known[deposit % _known.length].channel;
        if (payee % 16 == 15) c.payee = address(0);
        if (signer % 16 == 15) c.signer = address(0);
        deposit = deposit % 8 == 7 ? 0 : deposit % CAP;
        bool due = deposit != 0 && c.payee != address(0) && c.signer != address(0);
        due = due && !_exists[channels.channelIdOf(c)];
        vm.prank(c.payer);
        try channels.open(c.payee, c.signer, c.salt, deposit) {
            require(due, "opened what exists, or is empty");
            _add(c, deposit);
        } catch {
            require(!due, "open was refused");
        }
    }

    function openMany(uint8 payer, uint8 payee, uint8 count, uint96 deposit) external checked {
        IPaymentChannels.Opening[] memory openings = new IPaymentChannels.Opening[](count % 5);
        deposit = deposit % CAP + 1;
        for (uint256 i; i < openings.length; ++i) {
            bytes32 salt = bytes32(_known.length + i);
            openings[i] = IPaymentChannels.Opening(_payees[payee % 3], _signers[i % 3], salt, deposit);
        }
        vm.prank(_payers[payer % 4]);
        channels.openMany(openings);
        for (uint256 i; i < openings.length; ++i) {
            address who = _payers[payer % 4];
            _add(IPaymentChannels.Channel(who, openings[i].payee, openings[i].signer, openings[i].salt), deposit);
        }
    }

    function topUp(uint8 caller, uint16 which, uint96 amount) external checked {
        if (_known.length == 0) return;
        Known storage k = _known[which % _known.length];
        amount %= CAP;
        address who = _caller(caller, k.channel.payer);
        bool due = who == k.channel.payer && !k.ended && amount != 0;
        vm.prank(who);
        try channels.topUp(k.channel, amount) {
            require(due, "topped up by another, or what is over");
            (k.deposit, k.closeAt) = (k.deposit + amount, 0);
            _held += amount;
            ++moves;
        } catch {
            require(!due, "a top-up was refused");
        }
        _compare(k);
    }

    function requestClose(uint8 caller, uint16 which) external checked {
        if (_known.length == 0) return;
        Known storage k = _known[which % _known.length];
        address who = _caller(caller, k.channel.payer);
        bool due = who == k.channel.payer && !k.ended && k.closeAt == 0;
        vm.prank(who);
        try channels.requestClose(k.channel) {
            require(due, "closing was asked for by another, or twice");
            k.closeAt = uint40(time) + GRACE;
        } catch {
            require(!due, "a request to close was refused");
        }
        _compare(k);
    }

    function withdraw(uint8 caller, uint16 which) external checked {
        if (_known.length == 0) return;
        Known storage k = _known[which % _known.length];
        address who = _caller(caller, k.channel.payer);
        bool due = who == k.channel.payer && !k.ended && k.closeAt != 0 && time >= k.closeAt;
        uint256 before = token.balanceOf(k.channel.payer);
        vm.prank(who);
        try channels.withdraw(k.channel) {
            require(due, "withdrawn by another, or before the grace is over");
            _refunded(k, before);
        } catch {
            require(!due, "a withdrawal was refused");
        }
        _compare(k);
    }

    function settle(uint16 which, uint96 cumulative, uint8 forgery) external checked {
        if (_known.length == 0) return;
        Known storage k = _known[which % _known.length];
        cumulative = uint96(cumulative % (uint256(k.deposit) * 5 / 4 + 1));
        (bytes memory signature, bool valid) = _voucher(k, cumulative, forgery);
        bool due = valid && !k.ended && cumulative <= k.deposit && cumulative > k.settled;
        uint256 before = token.balanceOf(k.channel.payee);
        try channels.settle(k.channel, cumulative, signature) {
            require(due, "settled without a voucher, above the deposit, or backwards");
            _paid(k, cumulative, before);
        } catch {
            require(!due, "settling was refused");
        }
        _compare(k);
    }

    function settleBatch(uint16 which, uint8 count, uint96 cumulative, uint8 forgery) external checked {
        if (_known.length == 0) return;
        Batch memory b;
        (b.payee, b.valid) = (_known[which % _known.length].channel.payee, true);
        b.settled = new uint256[](_known.length);
        for (uint256 i; i < b.settled.length; ++i) b.settled[i] = _known[i].settled;
        IPaymentChannels.Claim[] memory claims = new IPaymentChannels.Claim[](count % 6);
        for (uint256 i; i < claims.length; ++i) {
            uint256 n = (uint256(which) + i * (1 + forgery % 2)) % _known.length;
            claims[i] = _claim(b, n, uint256(keccak256(abi.encode(cumulative, i))), i == 0 ? forgery : 0);
        }
        uint256 before = token.balanceOf(b.payee);
        try channels.settleBatch(b.payee, claims) returns (uint256 paid) {
            require(b.valid && paid == b.paid, "a batch paid something else than its vouchers");
            require(token.balanceOf(b.payee) - before == paid, "a batch paid something else than it says");
            for (uint256 i; i < b.settled.length; ++i) _known[i].settled = uint96(b.settled[i]);
            _held -= paid;
            ++moves;
        } catch {
            require(!b.valid, "a batch of good vouchers was refused");
        }
    }

    function close(uint8 caller, uint16 which, uint96 cumulative, uint8 forgery) external checked {
        if (_known.length == 0 || forgery % 3 != 0) return;
        Known storage k = _known[which % _known.length];
        cumulative = uint96(cumulative % (uint256(k.deposit) * 5 / 4 + 1));
        (bytes memory signature, bool valid) = _voucher(k, cumulative, forgery);
        address who = caller % 8 == 0 ? k.channel.payer : k.channel.payee;
        bool due = who == k.channel.payee && !k.ended
            && (cumulative <= k.settled || (valid && cumulative <= k.deposit));
        (uint256 payee, uint256 payer) = (token.balanceOf(k.channel.payee), token.balanceOf(k.channel.payer));
        vm.prank(who);
        try channels.close(k.channel, cumulative, signature) {
            require(due, "closed by another, or without a voucher");
            if (cumulative > k.settled) _paid(k, cumulative, payee);
            _refunded(k, payer);
        } catch {
            require(!due, "closing was refused");
        }
        _compare(k);
    }

    /// @notice Every channel as the model has it; at the end of a sequence.
    function compareAll() external view {
        uint256 held;
        for (uint256 i; i < _known.length; ++i) {
            _compare(_known[i]);
            held += _known[i].deposit - _known[i].settled;
        }
        require(held <= _held, "channels promise more than there is");
    }

    // ------------------------------------------------------------------ model

    function _add(IPaymentChannels.Channel memory c, uint96 deposit) private {
        _exists[channels.channelIdOf(c)] = true;
        _known.push(Known(c, 0, deposit, 0, 0, false));
        _held += deposit;
        ++moves;
    }

    function _paid(Known storage k, uint96 cumulative, uint256 before) private {
        uint256 paid = cumulative - k.settled;
        require(token.balanceOf(k.channel.payee) - before == paid, "the payee got something else");
        k.settled = cumulative;
        _held -= paid;
        ++moves;
    }

    function _refunded(Known storage k, uint256 before) private {
        uint256 refund = k.deposit - k.settled;
        require(token.balanceOf(k.channel.payer) - before == refund, "the payer got something else back");
        (k.deposit, k.closeAt, k.ended) = (k.settled, 0, true);
        _held -= refund;
        ++moves;
    }

    function _compare(Known storage k) private view {
        (uint96 settled, uint96 deposit, uint40 closeAt, IPaymentChannels.Status status) =
            channels.channels(channels.channelIdOf(k.channel));
        require(settled == k.settled && deposit == k.deposit && closeAt == k.closeAt, "a channel differs");
        require(settled <= k.signed || settled == 0, "settled more than was ever signed");
        require(
            status == (k.ended ? IPaymentChannels.Status.Ended : IPaymentChannels.Status.Open), "a status differs"
        );
    }

    /// @dev One in eight calls comes from somebody who may not.
    function _caller(uint8 caller, address owner) private view returns (address) {
        return caller % 8 == 0 ? _payees[caller / 8 % 3] : owner;
    }

    function _voucher(Known storage k, uint96 cumulative, uint8 forgery)
        private
        returns (bytes memory signature, bool valid)
    {
        bytes32 id = channels.channelIdOf(k.channel);
        address signer = k.channel.signer;
        bytes32 digest = channels.voucherDigest(id, cumulative);
        valid = forgery % 16 == 0 || forgery % 16 > 4;
        if (forgery % 16 == 1) signer = k.channel.payer;
        if (forgery % 16 == 2) digest = channels.voucherDigest(keccak256(abi.encode(id)), cumulative);
        if (forgery % 16 == 3) {
            vm.chainId(2);
            digest = channels.voucherDigest(id, cumulative);
            vm.chainId(31337);
        }
        if (forgery % 16 == 4) digest = channels.voucherDigest(id, cumulative ^ 1);
        (bytes32 r, bytes32 vs) = _sign(signer, digest);
        signature = abi.encodePacked(r, vs);
        if (valid && cumulative > k.signed) k.signed = cumulative;
    }

    /// @dev A row of a batch. Those of another payee name a channel that is not there, and pay nothing.
    function _claim(Batch memory b, uint256 n, uint256 random, uint8 forgery)
        private
        returns (IPaymentChannels.Claim memory)
    {
        Known storage k = _known[n];
        uint96 cumulative = uint96(random % (uint256(k.deposit) + 1));
        (bytes memory signature, bool valid) = _voucher(k, cumulative, forgery);
        (bytes32 r, bytes32 vs) = abi.decode(signature, (bytes32, bytes32));
        bool own = k.channel.payee == b.payee;
        if (own && !k.ended && cumulative > b.settled[n]) {
            b.valid = b.valid && valid;
            b.paid += cumulative - b.settled[n];
            b.settled[n] = cumulative;
        }
        bytes32 salt = own ? k.channel.salt : keccak256(abi.encode(n, random));
        return IPaymentChannels.Claim(k.channel.payer, k.channel.signer, salt, cumulative, r, vs);
    }
}
