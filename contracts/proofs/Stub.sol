// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title A token that remembers what it was asked for and refuses nothing
/// @dev The contracts are looked at here, not the token: balances are sums of what went in and out.
contract Stub {
    mapping(address who => uint256) public balanceOf;
    uint256 public burned;

    function transfer(address to, uint256 amount) external returns (bool) {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
        return true;
    }

    function transferFrom(address, address to, uint256 amount) external returns (bool) {
        balanceOf[to] += amount;
        return true;
    }

    function burn(uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        burned += amount;
    }
}

interface Vm {
    function assume(bool holds) external pure;
    function prank(address sender) external;
    function warp(uint256 timestamp) external;
}

abstract contract Proof {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    Stub internal token = new Stub();
}
