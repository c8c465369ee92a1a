// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title The list of verifiers, from which committees are drawn
interface IVerifierList {
    /// @notice The verifier can be drawn for cases that are opened from the next block on.
    event Enlisted(address indexed verifier, address indexed operator);

    /// @notice The verifier is drawn no longer.
    event Delisted(address indexed verifier, address indexed operator);

    /// @notice The list has too few eligible verifiers that are no party to the case and were there before it.
    error NotEnoughVerifiers(uint256 found);
    /// @notice The node key has no operator with the minimum stake.
    error NotEligible();
    /// @notice The operator has this verifier on the list.
    error AlreadyEnlisted(address verifier);
    /// @notice The list is full.
    error ListFull();
    /// @notice The verifier is not on the list.
    error NotEnlisted();
    /// @notice An eligible verifier is delisted by itself or its operator.
    error NotOperator();

    /// @notice Puts the caller, a node key, on the list of verifiers. One key per operator; it must be eligible.
    function enlist() external;

    /// @notice Takes a verifier off the list: by itself, its operator, or, when it is not eligible, anybody.
    function delist(address verifier) external;

    /// @notice Places on the list of verifiers, vacant ones too.
    function verifierCount() external view returns (uint256);

    /// @notice Verifier at a place of the list, from 0; zero for a vacant one.
    function verifierAt(uint256 place) external view returns (address);

    /// @notice Whether the node key is on the list.
    function isEnlisted(address verifier) external view returns (bool);

    /// @notice The operator's verifier on the list, or zero.
    function verifierOf(address operator) external view returns (address);
}
