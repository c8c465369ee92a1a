// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {Disputes} from "./Disputes.sol";
import {HyperToken} from "./HyperToken.sol";
import {IDisputeCases} from "./interfaces/IDisputeCases.sol";
import {IDisputeDemands} from "./interfaces/IDisputeDemands.sol";
import {RowTree} from "./libraries/RowTree.sol";
import {Statements} from "./libraries/Statements.sol";

/// @title DisputeDemands
/// @notice Demands that single rows of a receipt be shown; see {IDisputeDemands}.
contract DisputeDemands is IDisputeDemands, Disputes {
    using SafeERC20 for HyperToken;
    using Statements for Stage;
    using Statements for Receipt;

    uint96 private immutable bond;
    uint40 private immutable serveWindow;

    uint256 private _demandCount;
    mapping(uint256 demandId => Demand) private _demands;
    mapping(bytes32 key => uint256 demandId) private _demandOf;

    /// @param cases The contract of cases: its terms, token, registry and EIP-712 domain hold here too.
    constructor(IDisputeCases cases)
        Disputes(cases.token(), cases.registry(), address(cases), cases.parameters())
    {
        Parameters memory p = cases.parameters();
        bond = p.demandBond;
        serveWindow = p.serveWindow;
    }

    // ---------------------------------------------------------------- demands

    /// @inheritdoc IDisputeDemands
    function demand(Stage calldata stage, Receipt calldata receipt, Signature calldata signature, bool output, uint32 row)
        public
        returns (uint256 demandId)
    {
        bytes32 stageHash = stage.hash();
        address node = _signer(receipt.hash(stageHash), signature);
        address operator = _accused(node, receipt.issued);
        uint32 size = output ? receipt.outputs : receipt.tokens;
        require(row < size, NoSuchRow(size));
        bytes32 key = keccak256(abi.encode(node, stageHash, receipt.seq, output, row));
        require(_demandOf[key] == 0, DemandExists(_demandOf[key]));

        demandId = ++_demandCount;
        _demandOf[key] = demandId;
        uint40 deadline = uint40(block.timestamp) + serveWindow;
        _demands[demandId] = Demand({
            demander: msg.sender,
            row: row,
            size: size,
            status: DemandStatus.Open,
            node: node,
            deadline: deadline,
            root: output ? receipt.outRoot : receipt.inRoot
        });

        emit Demanded(demandId, msg.sender, node, operator, stageHash, receipt.seq, output, row, deadline);
        token.safeTransferFrom(msg.sender, address(this), bond);
    }

    /// @inheritdoc IDisputeDemands
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
    ) external returns (uint256 demandId) {
        _permit(bond, deadline, permitV, permitR, permitS);
        return demand(stage, receipt, signature, output, row);
    }

    /// @inheritdoc IDisputeDemands
    function serve(uint256 demandId, bytes calldata data, bytes32[] calldata proof) external {
        Demand memory d = _demands[demandId];
        require(
            d.status == DemandStatus.Open && block.timestamp <= d.deadline, WrongStatus(d.status, d.deadline)
        );
        require(RowTree.holds(d.root, d.size, d.row, data, proof), BadProof());

        _demands[demandId].status = DemandStatus.Served;

        emit Served(demandId, keccak256(data));
        token.safeTransfer(registry.answersFor(d.node), bond);
    }

    /// @inheritdoc IDisputeDemands
    function lapse(uint256 demandId) external {
        Demand memory d = _demands[demandId];
        require(
            d.status == DemandStatus.Open && block.timestamp > d.deadline, WrongStatus(d.status, d.deadline)
        );

        _demands[demandId].status = DemandStatus.Lapsed;

        address operator = registry.answersFor(d.node);
        uint96 taken = registry.slash(operator, fault, d.demander, reward);
        emit Withheld(demandId, d.node, operator, taken);
        token.safeTransfer(d.demander, bond);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IDisputeDemands
    function demands(uint256 demandId) external view returns (Demand memory) {
        return _demands[demandId];
    }
}
