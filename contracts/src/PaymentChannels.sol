// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {HyperToken} from "./HyperToken.sol";
import {IPaymentChannels} from "./interfaces/IPaymentChannels.sol";
import {Figures, pack} from "./types/Figures.sol";

/// @title PaymentChannels
/// @notice Unidirectional payment channels in HyperToken; see {IPaymentChannels}.
contract PaymentChannels is IPaymentChannels, EIP712 {
    using SafeERC20 for HyperToken;

    bytes32 private constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint96 cumulative)");

    /// @notice The token that channels hold and pay.
    HyperToken public immutable token;

    /// @inheritdoc IPaymentChannels
    uint40 public immutable grace;

    mapping(bytes32 channelId => Figures) private _figures;

    /// @param token_ HyperToken.
    /// @param grace_ Seconds that a payee has to settle after the payer asked to close.
    constructor(address token_, uint40 grace_) EIP712("HyperCluster PaymentChannels", "1") {
        require(token_ != address(0), ZeroAddress());
        token = HyperToken(token_);
        grace = grace_;
    }

    // ------------------------------------------------------------------ payer

    /// @inheritdoc IPaymentChannels
    function open(address payee, address signer, bytes32 salt, uint96 deposit) public returns (bytes32 channelId) {
        channelId = _open(payee, signer, salt, deposit);
        token.safeTransferFrom(msg.sender, address(this), deposit);
    }

    /// @inheritdoc IPaymentChannels
    function openWithPermit(
        address payee,
        address signer,
        bytes32 salt,
        uint96 deposit,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external returns (bytes32 channelId) {
        _permit(deposit, deadline, v, r, s);
        return open(payee, signer, salt, deposit);
    }

    /// @inheritdoc IPaymentChannels
    function openMany(Opening[] calldata openings) public returns (bytes32[] memory channelIds) {
        uint256 total;
        channelIds = new bytes32[](openings.length);
        for (uint256 i; i < openings.length; ++i) {
            Opening calldata o = openings[i];
            channelIds[i] = _open(o.payee, o.signer, o.salt, o.deposit);
            total += o.deposit;
        }
        token.safeTransferFrom(msg.sender, address(this), total);
    }

    /// @inheritdoc IPaymentChannels
    function openManyWithPermit(Opening[] calldata openings, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        returns (bytes32[] memory channelIds)
    {
        uint256 total;
        for (uint256 i; i < openings.length; ++i) total += openings[i].deposit;
        _permit(total, deadline, v, r, s);
        return openMany(openings);
    }

    /// @inheritdoc IPaymentChannels
    function topUp(Channel calldata channel, uint96 amount) public {
        require(msg.sender == channel.payer, NotPayer());
        require(amount != 0, ZeroAmount());
        (bytes32 channelId, Figures figures) = _load(channel);

        uint96 deposit = figures.deposit() + amount;
        _figures[channelId] = pack(figures.settled(), deposit, 0, Status.Open);

        emit ToppedUp(channelId, deposit);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IPaymentChannels
    function topUpWithPermit(
        Channel calldata channel,
        uint96 amount,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        _permit(amount, deadline, v, r, s);
        topUp(channel, amount);
    }

    /// @inheritdoc IPaymentChannels
    function requestClose(Channel calldata channel) external {
        require(msg.sender == channel.payer, NotPayer());
        (bytes32 channelId, Figures figures) = _load(channel);
        require(figures.closeAt() == 0, CloseAlreadyRequested(channelId, figures.closeAt()));

        uint40 closeAt = uint40(block.timestamp) + grace;
        _figures[channelId] = pack(figures.settled(), figures.deposit(), closeAt, Status.Open);

        emit CloseRequested(channelId, closeAt);
    }

    /// @inheritdoc IPaymentChannels
    function withdraw(Channel calldata channel) external {
        require(msg.sender == channel.payer, NotPayer());
        (bytes32 channelId, Figures figures) = _load(channel);
        uint40 closeAt = figures.closeAt();
        require(closeAt != 0, CloseNotRequested(channelId));
        require(block.timestamp >= closeAt, GracePeriod(channelId, closeAt));

        uint96 refund = _end(channelId, figures.settled(), figures.deposit());

        if (refund != 0) token.safeTransfer(channel.payer, refund);
    }

    // ------------------------------------------------------------------ payee

    /// @inheritdoc IPaymentChannels
    function settle(Channel calldata channel, uint96 cumulative, bytes calldata signature) external {
        (bytes32 channelId, Figures figures) = _load(channel);
        require(cumulative > figures.settled(), NothingToSettle(channelId, figures.settled()));
        _checkVoucher(channelId, figures, cumulative, channel.signer, _recover(channelId, cumulative, signature));

        uint96 paid = _settle(channelId, figures, channel.payee, cumulative);

        token.safeTransfer(channel.payee, paid);
    }

    /// @inheritdoc IPaymentChannels
    function settleBatch(address payee, Claim[] calldata claims) external returns (uint256 paid) {
        for (uint256 i; i < claims.length; ++i) {
            Claim calldata c = claims[i];
            bytes32 channelId = _channelId(c.payer, payee, c.signer, c.salt);
            Figures figures = _figures[channelId];
            if (!figures.isOpen() || c.cumulative <= figures.settled()) continue;
            (address recovered,,) = ECDSA.tryRecover(voucherDigest(channelId, c.cumulative), c.r, c.vs);
            _checkVoucher(channelId, figures, c.cumulative, c.signer, recovered);

            paid += _settle(channelId, figures, payee, c.cumulative);
        }
        if (paid != 0) token.safeTransfer(payee, paid);
    }

    /// @inheritdoc IPaymentChannels
    function close(Channel calldata channel, uint96 cumulative, bytes calldata signature) external {
        require(msg.sender == channel.payee, NotPayee());
        (bytes32 channelId, Figures figures) = _load(channel);
        uint96 settled = figures.settled();
        if (cumulative > settled) {
            _checkVoucher(channelId, figures, cumulative, channel.signer, _recover(channelId, cumulative, signature));
        } else {
            cumulative = settled;
        }
        uint96 paid = cumulative - settled;

        uint96 refund = _end(channelId, cumulative, figures.deposit());

        if (paid != 0) token.safeTransfer(channel.payee, paid);
        if (refund != 0) token.safeTransfer(channel.payer, refund);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IPaymentChannels
    function channels(bytes32 channelId)
        external
        view
        returns (uint96 settled, uint96 deposit, uint40 closeAt, Status status)
    {
        Figures figures = _figures[channelId];
        return (figures.settled(), figures.deposit(), figures.closeAt(), figures.status());
    }

    /// @inheritdoc IPaymentChannels
    function channelIdOf(Channel calldata channel) public view returns (bytes32 channelId) {
        // As _channelId does, copying the four words at once. Dirty upper bits of an address give the id of no channel.
        assembly ("memory-safe") {
            let free := mload(0x40)
            calldatacopy(free, channel, 0x80)
            mstore(add(free, 0x80), address())
            mstore(add(free, 0xa0), chainid())
            channelId := keccak256(free, 0xc0)
        }
    }

    /// @inheritdoc IPaymentChannels
    function voucherDigest(bytes32 channelId, uint96 cumulative) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, cumulative)));
    }

    /// @inheritdoc IPaymentChannels
    function DOMAIN_SEPARATOR() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    // --------------------------------------------------------------- internal

    /// @dev Everything about opening but the transfer.
    function _open(address payee, address signer, bytes32 salt, uint96 deposit) private returns (bytes32 channelId) {
        require(payee != address(0) && signer != address(0), ZeroAddress());
        require(deposit != 0, ZeroAmount());
        channelId = _channelId(msg.sender, payee, signer, salt);
        require(_figures[channelId].isUnused(), ChannelExists(channelId));

        _figures[channelId] = pack(0, deposit, 0, Status.Open);

        emit Opened(channelId, msg.sender, payee, signer, salt, deposit);
    }

    /// @dev Raises what is settled to `cumulative`; the caller has checked the voucher and transfers the difference.
    function _settle(bytes32 channelId, Figures figures, address payee, uint96 cumulative)
        private
        returns (uint96 paid)
    {
        paid = cumulative - figures.settled();
        _figures[channelId] = pack(cumulative, figures.deposit(), figures.closeAt(), Status.Open);
        emit Settled(channelId, payee, cumulative, paid);
    }

    /// @dev Stores the tombstone. It holds no tokens: its deposit equals what was settled.
    function _end(bytes32 channelId, uint96 settled, uint96 deposit) private returns (uint96 refund) {
        refund = deposit - settled;
        _figures[channelId] = pack(settled, settled, 0, Status.Ended);
        emit Closed(channelId, settled, refund);
    }

    /// @dev An allowance may exist without this permit, or because somebody else submitted it.
    function _permit(uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) private {
        try token.permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
    }

    function _load(Channel calldata channel) private view returns (bytes32 channelId, Figures figures) {
        channelId = channelIdOf(channel);
        figures = _figures[channelId];
        require(figures.isOpen(), ChannelNotOpen(channelId));
    }

    /// @dev A failed recovery yields the zero address, which is nobody's signer: `_open` refuses it.
    function _checkVoucher(bytes32 channelId, Figures figures, uint96 cumulative, address signer, address recovered)
        private
        pure
    {
        require(cumulative <= figures.deposit(), OverDeposit(channelId, figures.deposit()));
        require(recovered == signer, BadSignature(channelId));
    }

    function _recover(bytes32 channelId, uint96 cumulative, bytes calldata signature)
        private
        view
        returns (address recovered)
    {
        (uint8 v, bytes32 r, bytes32 s) = ECDSA.parseCalldata(signature);
        (recovered,,) = ECDSA.tryRecover(voucherDigest(channelId, cumulative), v, r, s);
    }

    function _channelId(address payer, address payee, address signer, bytes32 salt) private view returns (bytes32) {
        return keccak256(abi.encode(payer, payee, signer, salt, address(this), block.chainid));
    }
}
