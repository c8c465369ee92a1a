// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Unidirectional payment channels in one ERC-20 token
/// @notice A payer locks a deposit for one payee. Off chain, the channel's signer hands the payee vouchers over a
/// growing total. On chain, the payee turns the best voucher into tokens, and the rest returns to the payer.
/// @dev The descriptor of a channel travels in calldata, and only its hash and one slot of figures are stored.
/// Tokens held for channels equal the sum of `deposit - settled` over all channels, ended ones included.
/// @custom:assumption The token is HyperToken: transfers move the exact amount or revert, and call nobody.
/// @custom:warning Tokens sent here by a plain transfer belong to no channel and cannot be recovered.
interface IPaymentChannels {
    /// @notice What names a channel.
    /// @param payer Account that opened the channel, and receives what is left.
    /// @param payee Account that is paid.
    /// @param signer Externally owned account whose vouchers spend the deposit; EIP-1271 is not supported.
    /// @param salt Tells channels between the same accounts apart. A counter will do, and costs less calldata gas than
    /// random bytes.
    struct Channel {
        address payer;
        address payee;
        address signer;
        bytes32 salt;
    }

    /// @notice A channel to open; the payer is the caller.
    struct Opening {
        address payee;
        address signer;
        bytes32 salt;
        uint96 deposit;
    }

    /// @notice A voucher of one of a payee's channels, for `settleBatch`.
    /// @param cumulative Total in wei that the voucher grants since the channel was opened.
    /// @param r First word of the signature.
    /// @param vs Second word: s with the recovery bit on top (EIP-2098).
    struct Claim {
        address payer;
        address signer;
        bytes32 salt;
        uint96 cumulative;
        bytes32 r;
        bytes32 vs;
    }

    /// @notice Life of a channel id: never used, in use, over. An ended channel never opens again.
    enum Status {
        None,
        Open,
        Ended
    }

    /// @notice A channel was opened; descriptor and deposit are all that a payee needs to know.
    event Opened(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        address signer,
        bytes32 salt,
        uint96 deposit
    );

    /// @notice The deposit grew to `deposit`, and a request to close was cancelled if there was one.
    event ToppedUp(bytes32 indexed channelId, uint96 deposit);

    /// @notice `paid` went to the payee, `cumulative` in total since the channel was opened. What `close` pays is told
    /// by `Closed` alone.
    event Settled(bytes32 indexed channelId, address indexed payee, uint96 cumulative, uint96 paid);

    /// @notice The payer wants to close; the payee has until `closeAt` (seconds since 1970) to settle.
    event CloseRequested(bytes32 indexed channelId, uint40 closeAt);

    /// @notice The channel ended: the payee got `settled` in total, `refunded` went back to the payer.
    event Closed(bytes32 indexed channelId, uint96 settled, uint96 refunded);

    /// @notice Payee, signer or token is the zero address.
    error ZeroAddress();
    /// @notice A deposit or top-up of nothing.
    error ZeroAmount();
    /// @notice The channel id is in use, or was.
    error ChannelExists(bytes32 channelId);
    /// @notice The channel was never opened, or has ended.
    error ChannelNotOpen(bytes32 channelId);
    /// @notice Only the channel's payer may do this.
    error NotPayer();
    /// @notice Only the channel's payee may do this.
    error NotPayee();
    /// @notice The voucher grants no more than what was settled before.
    error NothingToSettle(bytes32 channelId, uint96 settled);
    /// @notice The voucher grants more than the deposit.
    error OverDeposit(bytes32 channelId, uint96 deposit);
    /// @notice The voucher is not signed by the channel's signer, or is malleable, or of a wrong length.
    error BadSignature(bytes32 channelId);
    /// @notice The close was requested before; it is due at `closeAt`.
    error CloseAlreadyRequested(bytes32 channelId, uint40 closeAt);
    /// @notice The payer has not asked to close.
    error CloseNotRequested(bytes32 channelId);
    /// @notice The payee may still settle, until `closeAt`.
    error GracePeriod(bytes32 channelId, uint40 closeAt);

    /// @notice Opens a channel from the caller to `payee`.
    /// @param deposit Amount in wei, taken from the caller's allowance.
    /// @return channelId Id of the channel.
    function open(address payee, address signer, bytes32 salt, uint96 deposit) external returns (bytes32 channelId);

    /// @notice `open` with an EIP-2612 permit over the deposit in place of an allowance.
    /// @dev A permit that fails is passed over: somebody may have submitted it first, and the allowance decides.
    function openWithPermit(
        address payee,
        address signer,
        bytes32 salt,
        uint96 deposit,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external returns (bytes32 channelId);

    /// @notice Opens several channels with one token transfer. All or none.
    function openMany(Opening[] calldata openings) external returns (bytes32[] memory channelIds);

    /// @notice `openMany` with a permit over the sum of the deposits.
    function openManyWithPermit(Opening[] calldata openings, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        returns (bytes32[] memory channelIds);

    /// @notice Adds to the deposit of the caller's channel, and cancels a request to close.
    function topUp(Channel calldata channel, uint96 amount) external;

    /// @notice `topUp` with a permit over the amount.
    function topUpWithPermit(
        Channel calldata channel,
        uint96 amount,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;

    /// @notice Pays the payee what the voucher grants beyond what was settled. Anyone may submit.
    /// @dev Works while a close is pending, even past its time, until the payer withdraws.
    /// @param cumulative Total in wei that the voucher grants.
    /// @param signature 64 bytes (EIP-2098) or 65 bytes (r, s, v with v = 27 or 28), s in the lower half.
    function settle(Channel calldata channel, uint96 cumulative, bytes calldata signature) external;

    /// @notice Settles several channels of one payee with one token transfer. Anyone may submit.
    /// @dev A row is passed over when there is nothing to pay on it: the channel is not open, or the voucher is not
    /// above what was settled. That may happen through no fault of the caller. A wrong signature or a voucher above
    /// the deposit reverts the batch.
    /// @return paid Sum in wei that went to the payee.
    function settleBatch(address payee, Claim[] calldata claims) external returns (uint256 paid);

    /// @notice Ends the channel on the payee's word: pays the voucher, if it is worth anything, and refunds the rest.
    /// @dev A voucher that is not above what was settled is not looked at; zero and an empty signature will do.
    function close(Channel calldata channel, uint96 cumulative, bytes calldata signature) external;

    /// @notice Announces that the payer wants the rest back; the grace period begins.
    function requestClose(Channel calldata channel) external;

    /// @notice Ends the payer's channel after the grace period and refunds the rest.
    /// @custom:warning A payee that has not settled by now has lost its vouchers.
    function withdraw(Channel calldata channel) external;

    /// @notice Figures of a channel.
    /// @return settled Total paid to the payee in wei; it never falls.
    /// @return deposit Total put in by the payer in wei; lowered to `settled` when the channel ends.
    /// @return closeAt Time from which the payer may withdraw, seconds since 1970; 0 without a request to close.
    /// @return status None (0), Open (1) or Ended (2).
    function channels(bytes32 channelId)
        external
        view
        returns (uint96 settled, uint96 deposit, uint40 closeAt, Status status);

    /// @notice Id of a channel: keccak256(abi.encode(payer, payee, signer, salt, this contract, chain id)).
    function channelIdOf(Channel calldata channel) external view returns (bytes32);

    /// @notice EIP-712 hash that a voucher's signer signs: Voucher(bytes32 channelId,uint96 cumulative).
    function voucherDigest(bytes32 channelId, uint96 cumulative) external view returns (bytes32);

    /// @notice EIP-712 domain: "HyperCluster PaymentChannels", "1", chain id, this contract.
    function DOMAIN_SEPARATOR() external view returns (bytes32);

    /// @notice Seconds between a request to close and the payer's withdrawal.
    function grace() external view returns (uint40);
}
