// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputeCases} from "../src/interfaces/IDisputeCases.sol";
import {IDisputeDemands} from "../src/interfaces/IDisputeDemands.sol";
import {IDisputeProofs} from "../src/interfaces/IDisputeProofs.sol";
import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IPaymentChannels} from "../src/interfaces/IPaymentChannels.sol";
import {IStakingRegistry} from "../src/interfaces/IStakingRegistry.sol";
import {HyperToken} from "../src/HyperToken.sol";

/// @dev The cheat codes of forge that are used here.
interface Vm {
    function addr(uint256 key) external pure returns (address);
    function chainId(uint256 id) external;
    function deal(address who, uint256 amount) external;
    function envBytes(string calldata name) external view returns (bytes memory);
    function envOr(string calldata name, address otherwise) external view returns (address);
    function envOr(string calldata name, string calldata otherwise) external view returns (string memory);
    function getCode(string calldata artifact) external view returns (bytes memory);
    function prank(address sender) external;
    function roll(uint256 number) external;
    function setBlockhash(uint256 number, bytes32 value) external;
    function sign(uint256 key, bytes32 digest) external pure returns (uint8, bytes32, bytes32);
    function startPrank(address sender) external;
    function stopPrank() external;
    function warp(uint256 timestamp) external;
}

/// @title All contracts as their artifacts are committed, people with keys, and a clock
/// @dev Terms are the defaults of a deployment, which scripts/invariants.py hands over. HC_ARTIFACTS names another folder
/// of artifacts, and HC_MUTANT the address whose coin switches one of their mutants on: scripts/mutate_contracts.py.
abstract contract Market {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    uint96 internal constant HCT = 1e18;
    uint40 internal constant UNBONDING = 14 days;
    uint40 internal constant GRACE = 1 days;
    uint96 internal constant SESSION_STAKE = 6 * HCT;

    HyperToken internal token;
    IStakingRegistry internal registry;
    IPaymentChannels internal channels;
    IDisputeCases internal cases;
    IDisputeProofs internal proofs;
    IDisputeDemands internal demands;
    IDisputes.Parameters internal terms;

    uint256 internal blockNumber = 1000;
    uint256 internal time = 1_900_000_000;
    uint256 private _keys = 1000;
    mapping(address person => uint256 key) internal keyOf;

    /// @param judge Somebody else who may slash, or the zero address.
    constructor(address judge) {
        vm.warp(time);
        vm.roll(blockNumber);
        vm.deal(vm.envOr("HC_MUTANT", address(0)), 1);
        terms = abi.decode(vm.envBytes("HC_TERMS"), (IDisputes.Parameters));
        token = HyperToken(_create("HyperToken", abi.encode(address(this), uint256(1e9) * HCT)));
        channels = IPaymentChannels(_create("PaymentChannels", abi.encode(token, GRACE)));
        registry =
            IStakingRegistry(_create("StakingRegistry", abi.encode(token, UNBONDING, terms.fault, SESSION_STAKE)));
        cases = IDisputeCases(_create("DisputeCases", abi.encode(registry, terms)));
        proofs = IDisputeProofs(_create("DisputeProofs", abi.encode(cases)));
        demands = IDisputeDemands(_create("DisputeDemands", abi.encode(cases)));
        address[] memory slashers = new address[](judge == address(0) ? 3 : 4);
        (slashers[0], slashers[1], slashers[2]) = (address(cases), address(proofs), address(demands));
        if (judge != address(0)) slashers[3] = judge;
        registry.setSlashers(slashers);
    }

    /// @dev Somebody with `amount` who lets every contract take from it.
    function _person(uint256 amount) internal returns (address who) {
        uint256 key = ++_keys;
        who = vm.addr(key);
        keyOf[who] = key;
        if (amount != 0) token.transfer(who, amount);
        vm.startPrank(who);
        token.approve(address(registry), type(uint256).max);
        token.approve(address(channels), type(uint256).max);
        token.approve(address(cases), type(uint256).max);
        token.approve(address(demands), type(uint256).max);
        vm.stopPrank();
    }

    function _pass(uint256 duration) internal {
        time += duration;
        vm.warp(time);
    }

    /// @dev Lets blocks go by, twelve seconds each.
    function _blocks(uint256 count) internal {
        blockNumber += count;
        vm.roll(blockNumber);
        _pass(12 * count);
    }

    /// @dev The header of an earlier block as far as anybody reads it: thirteen empty fields, then the randomness.
    function _header(uint256 number) internal returns (bytes memory header) {
        bytes32 random = keccak256(abi.encode(number, time));
        header = bytes.concat(hex"f9002e", hex"80808080808080808080808080", hex"a0", random);
        vm.setBlockhash(number, keccak256(header));
    }

    function _sign(address who, bytes32 digest) internal view returns (bytes32 r, bytes32 vs) {
        uint8 v;
        bytes32 s;
        (v, r, s) = vm.sign(keyOf[who], digest);
        vs = bytes32(uint256(s) | uint256(v - 27) << 255);
    }

    function _authorize(address operator, address node, uint96 share) internal {
        (bytes32 r, bytes32 vs) = _sign(node, registry.authorizeDigest(operator, node, time));
        vm.prank(operator);
        registry.authorize(node, share, time, abi.encodePacked(r, vs));
    }

    function _create(string memory name, bytes memory arguments) private returns (address made) {
        string memory folder = vm.envOr("HC_ARTIFACTS", string("artifacts"));
        bytes memory code = bytes.concat(vm.getCode(string.concat(folder, "/", name, ".json")), arguments);
        assembly ("memory-safe") {
            made := create(0, add(code, 0x20), mload(code))
        }
        require(made != address(0), name);
    }
}
