// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IVerifierList} from "../src/interfaces/IVerifierList.sol";
import {Blocks} from "../src/libraries/Blocks.sol";
import {Market} from "./Market.sol";
import {SignedStatements} from "./SignedStatements.sol";

/// @title Headers that hash to the block that draws, and are none
/// @dev Nobody finds one on a chain. Here the hash of the block is made to fit.
contract HeadersTest is SignedStatements {
    constructor() Market(address(0)) {}

    function test_what_is_no_header_draws_nobody() external {
        bytes memory good = _header(blockNumber - 1);
        bytes[] memory bad = new bytes[](5);
        (bad[0], bad[1], bad[2]) = (_changed(good, 0, 0xf8), _changed(good, 16, 0xa1), _cut(good));
        (bad[3], bad[4]) = (hex"f9", hex"f90000");
        address operator = _person(terms.fault);
        address node = _person(0);
        vm.prank(operator);
        registry.stake(terms.fault);
        _authorize(operator, node, terms.fault);
        vm.startPrank(_person(terms.bond));
        Slot memory slot = Slot(node, 1, 0, 0, uint40(time));
        uint256 id = cases.openCase(_stage(1), _receipt(slot), _signReceipt(slot));
        vm.stopPrank();
        uint256 drawBlock = cases.cases(id).drawBlock;
        _blocks(terms.drawDelay + 1);
        for (uint256 i; i < bad.length; ++i) {
            require(_refused(id, drawBlock, bad[i]) == Blocks.BadHeader.selector, "looked at the list");
        }
        // This one ends with the randomness; the list is empty.
        require(_refused(id, drawBlock, good) == IVerifierList.NotEnoughVerifiers.selector, "did not look at the list");
    }

    function _refused(uint256 id, uint256 drawBlock, bytes memory header) private returns (bytes4) {
        vm.setBlockhash(drawBlock, keccak256(header));
        try cases.draw(id, header) {
            return 0;
        } catch (bytes memory said) {
            return bytes4(said);
        }
    }

    function _changed(bytes memory header, uint256 place, uint8 to) private pure returns (bytes memory other) {
        other = bytes.concat(header);
        other[place] = bytes1(to);
    }

    function _cut(bytes memory header) private pure returns (bytes memory shorter) {
        shorter = new bytes(header.length - 1);
        for (uint256 i; i < shorter.length; ++i) shorter[i] = header[i];
    }
}
