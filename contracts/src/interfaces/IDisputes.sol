// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {HyperToken} from "../HyperToken.sol";
import {IStakingRegistry} from "./IStakingRegistry.sol";

/// @title What the contracts of disputes share: what node keys sign, and what faults cost
/// @notice Node keys sign receipts for their work as providers and verdicts for their work as verifiers. Two statements
/// that contradict each other are proof in themselves: {IDisputeProofs}. Whether the work of a receipt was right is
/// decided by a committee of verifiers, drawn at random, that runs it again: {IDisputeCases}. Whether its rows are to be
/// had is decided by asking for one: {IDisputeDemands}.
/// @custom:assumption The token's transfers move the exact amount or revert, and call nobody. What is burned goes to an
/// address without a key where the token cannot be burned.
/// @custom:assumption The registry appoints the three contracts as its slashers, and nothing else, before anything is at
/// stake.
/// @custom:warning Tokens sent to them by a plain transfer are lost.
interface IDisputes {
    /// @notice What faults cost and how long everything takes, fixed for good and for all contracts of disputes alike.
    /// @param fault Stake in wei that a fault costs.
    /// @param silence Stake in wei that a member of a committee loses who does not reveal a vote.
    /// @param bond Tokens in wei that a case costs the accuser unless the accused is found guilty or nothing is decided.
    /// @param demandBond Tokens in wei that a demand costs if it is served.
    /// @param rewardBps Part of `fault` that goes to whoever reports it, in 1/10,000.
    /// @param memberBps Part of `fault` that goes to the operator of each member that voted guilty, in 1/10,000.
    /// @param seats Members of a committee, 1 to 15.
    /// @param skew Seconds by which the clock of a signer may be wrong.
    /// @param evidenceWindow Seconds from a receipt's issue in which a case or a demand can be made of it; and from the end of an
    /// accuser's case in which it can open another.
    /// @param drawWindow Seconds to draw a committee.
    /// @param commitWindow Seconds to judge and to commit to a vote.
    /// @param revealWindow Seconds to reveal a vote.
    /// @param serveWindow Seconds to serve a demand.
    /// @param drawDelay Blocks between that in which a case is opened and that whose randomness draws its committee.
    struct Parameters {
        uint96 fault;
        uint96 silence;
        uint96 bond;
        uint96 demandBond;
        uint16 rewardBps;
        uint16 memberBps;
        uint8 seats;
        uint40 skew;
        uint40 evidenceWindow;
        uint40 drawWindow;
        uint40 commitWindow;
        uint40 revealWindow;
        uint40 serveWindow;
        uint16 drawDelay;
    }

    /// @notice A compact signature, EIP-2098.
    struct Signature {
        bytes32 r;
        bytes32 vs;
    }

    /// @notice One stage of one session, EIP-712 type Stage.
    /// @param session Random bytes of the client.
    /// @param nonce Random bytes of the provider: without them a client could get two receipts for one step from an
    /// honest provider, by making the same session twice.
    /// @param channelId The channel that pays for it.
    /// @param layerStart First layer.
    /// @param layerStop Layer behind the last.
    /// @param wireDtype Encoding of activations, little-endian: 1 for binary32, 2 for binary16, 3 for blocks of
    /// int8 with a scale each.
    /// @param profile SHA-256 of the provider's backend profile.
    struct Stage {
        bytes16 session;
        bytes16 nonce;
        bytes32 channelId;
        bytes32 modelId;
        uint32 layerStart;
        uint32 layerStop;
        uint8 wireDtype;
        bytes32 profile;
    }

    /// @notice One step of a stage: EIP-712 type Receipt, whose first member is the stage.
    /// @param seq Number of the step, from 0.
    /// @param position Tokens of the session before it.
    /// @param tokens Rows of input.
    /// @param outputs Rows of output.
    /// @param inRoot Root of the Merkle tree (RFC 9162, SHA-256) over the rows of input.
    /// @param outRoot The same over the rows of output.
    /// @param previous hashStruct of the receipt before; zero for the first.
    /// @param issued Seconds since 1970.
    struct Receipt {
        uint32 seq;
        uint32 position;
        uint32 tokens;
        uint32 outputs;
        bytes32 inRoot;
        bytes32 outRoot;
        bytes32 previous;
        uint40 issued;
    }

    /// @notice What a verifier says of a transcript, EIP-712 type Verdict.
    /// @param tail Whether the rows of output are candidates with logits, not activations.
    /// @param profile SHA-256 of the backend profile that whoever gave the outputs is said to have: within the bounds for
    /// it the rows were compared.
    /// @param finding 1 for outputs that are right, 2 for doubtful ones, 3 for wrong ones.
    /// @param tolerance How far a row may be from the verifier's own to pass, in millionths of the latter's length. More
    /// than a tenth counts as a tenth.
    /// @param fingerprint SHA-256 of the fingerprint of what the verifier computed.
    /// @param job Random bytes of the client.
    /// @param issued Seconds since 1970.
    /// @custom:warning A verifier that passes two different outputs of one input proves itself lazy: see
    /// `proveContradiction`. It must pass nothing of which a row is further than `tolerance` from its own.
    struct Verdict {
        bytes32 modelId;
        uint32 layerStart;
        uint32 layerStop;
        uint8 wireDtype;
        bool tail;
        bytes32 profile;
        bytes32 inRoot;
        bytes32 outRoot;
        uint32 tokens;
        uint32 outputs;
        uint8 finding;
        uint32 tolerance;
        bytes32 fingerprint;
        bytes32 job;
        uint40 issued;
    }

    /// @notice The statement is not signed by a node key that ever had an operator here; `signer` is what the signature
    /// recovers to, zero for a malformed one.
    error UnknownNode(address signer);
    /// @notice The operator has nothing that could be taken.
    error NothingAtStake(address operator);
    /// @notice The registry has not appointed this contract.
    error NotSlasher();
    /// @notice The receipt is older than the evidence window, or of the future.
    error StaleReceipt(uint40 issued);
    /// @notice The proof does not lead from the row to the root.
    error BadProof();

    /// @notice The token of stakes and bonds.
    function token() external view returns (HyperToken);

    /// @notice Where stake is held.
    function registry() external view returns (IStakingRegistry);

    /// @notice EIP-712 domain: "HyperCluster Disputes", "1", chain id, the contract of cases. Receipts and verdicts are
    /// signed in this one domain, whichever of the contracts reads them.
    function DOMAIN_SEPARATOR() external view returns (bytes32);
}
