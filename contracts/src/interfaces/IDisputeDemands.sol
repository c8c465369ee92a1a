// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputes} from "./IDisputes.sol";

/// @title Demands that single rows of a receipt be shown; see {IDisputes}
/// @dev Tokens held equal the bonds of open demands.
interface IDisputeDemands is IDisputes {
    /// @notice Where a demand stands.
    enum DemandStatus {
        None,
        Open,
        Served,
        Lapsed
    }

    /// @notice A demand as `demands` shows it: row `row` of the `size` rows under `root`, until `deadline`.
    struct Demand {
        address demander;
        uint32 row;
        uint32 size;
        DemandStatus status;
        address node;
        uint40 deadline;
        bytes32 root;
    }

    /// @notice A row of a receipt has to be shown until `deadline` (seconds since 1970).
    event Demanded(
        uint256 indexed demandId,
        address indexed demander,
        address indexed node,
        address operator,
        bytes32 stageHash,
        uint32 seq,
        bool output,
        uint32 row,
        uint40 deadline
    );

    /// @notice The row was shown: it is in the calldata of this transaction, and has this keccak256.
    event Served(uint256 indexed demandId, bytes32 dataHash);

    /// @notice The row was not shown. The operator lost `taken`.
    event Withheld(uint256 indexed demandId, address indexed node, address indexed operator, uint96 taken);

    /// @notice The receipt commits to `size` rows.
    error NoSuchRow(uint32 size);
    /// @notice The row was demanded before.
    error DemandExists(uint256 demandId);
    /// @notice The demand is not open, or its deadline has passed, or has not.
    error WrongStatus(DemandStatus status, uint40 deadline);

    /// @notice Demands that a row of a receipt be shown. Takes the demand's bond from the caller's allowance.
    /// @param output Whether a row of output is meant, or one of input.
    /// @return demandId Number of the demand, from 1.
    function demand(
        Stage calldata stage,
        Receipt calldata receipt,
        Signature calldata signature,
        bool output,
        uint32 row
    ) external returns (uint256 demandId);

    /// @notice `demand` with an EIP-2612 permit over the bond; see `openCaseWithPermit`.
    function demandWithPermit(
        Stage calldata stage,
        Receipt calldata receipt,
        Signature calldata signature,
        bool output,
        uint32 row,
        uint256 deadline,
        uint8 permitV,
        bytes32 permitR,
        bytes32 permitS
    ) external returns (uint256 demandId);

    /// @notice Shows a demanded row. Anybody may; the bond goes to the node's operator.
    function serve(uint256 demandId, bytes calldata data, bytes32[] calldata proof) external;

    /// @notice Ends a demand that was not served in time: the bond returns to the demander, and the operator loses
    /// `fault`, of which the demander has a part.
    function lapse(uint256 demandId) external;

    /// @notice What a demand is about and where it stands.
    function demands(uint256 demandId) external view returns (Demand memory);
}
