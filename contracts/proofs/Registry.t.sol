// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {StakingRegistry} from "../src/StakingRegistry.sol";
import {Proof} from "./Stub.sol";

/// @title Slashing, for all stakes, amounts and rewards
contract RegistryProof is Proof {
    address private constant OPERATOR = address(0x1111);
    address private constant REPORTER = address(0x2222);

    StakingRegistry private registry = new StakingRegistry(address(token), 14 days, 100e18, 6e18);

    constructor() {
        address[] memory slashers = new address[](1);
        slashers[0] = address(this);
        registry.setSlashers(slashers);
    }

    /// @dev What is taken is what was asked for or all there is, active stake first; half of it at least is burned.
    function check_slash(uint96 active, uint96 thawing, uint96 requested, uint96 reward) external {
        uint256 all = uint256(active) + thawing;
        vm.assume(active != 0 && thawing != 0 && all <= type(uint96).max);
        vm.prank(OPERATOR);
        registry.stake(uint96(all));
        vm.prank(OPERATOR);
        registry.unstake(thawing);
        uint96 taken = registry.slash(OPERATOR, requested, REPORTER, reward);
        (uint96 activeLeft, uint96 thawingLeft,) = registry.stakes(OPERATOR);
        (, uint96 rewarded,) = registry.rewards(REPORTER);
        assert(taken == (requested < all ? requested : all));
        assert(activeLeft == (requested < active ? active - requested : 0));
        assert(uint256(activeLeft) + thawingLeft == all - taken);
        assert(rewarded <= reward && uint256(rewarded) * 2 <= taken);
        assert(rewarded == reward || uint256(rewarded) * 2 + 1 >= taken);
        assert(token.burned() == taken - rewarded);
        assert(token.balanceOf(address(registry)) == all - token.burned());
    }
}
