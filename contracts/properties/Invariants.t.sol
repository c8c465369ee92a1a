// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ChannelsHandler} from "./ChannelsHandler.sol";
import {CourtHandler} from "./CourtHandler.sol";
import {RegistryHandler} from "./RegistryHandler.sol";

/// @title What forge calls: the actions of one handler, in any order
/// @dev Handlers compare after each call and revert on a difference, so that the invariants have nothing left to say.
abstract contract Sequences {
    function _handler() internal view virtual returns (address);

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = _handler();
    }
}

contract ChannelsTest is Sequences {
    ChannelsHandler private _channels;

    function setUp() external {
        _channels = new ChannelsHandler();
    }

    function invariant_channels() external view {}

    function afterInvariant() external view {
        _channels.compareAll();
    }

    function _handler() internal view override returns (address) {
        return address(_channels);
    }
}

contract RegistryTest is Sequences {
    RegistryHandler private _registry;

    function setUp() external {
        _registry = new RegistryHandler();
    }

    function invariant_registry() external view {}

    function _handler() internal view override returns (address) {
        return address(_registry);
    }
}

contract CourtTest is Sequences {
    event log_named_uint(string key, uint256 value);

    CourtHandler private _court;

    function setUp() external {
        _court = new CourtHandler();
    }

    function invariant_court() external view {}

    function afterInvariant() external {
        emit log_named_uint("resolutions", _court.resolutions());
        emit log_named_uint("convictions", _court.convictions());
    }

    function _handler() internal view override returns (address) {
        return address(_court);
    }
}
