// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Disputes} from "./Disputes.sol";
import {IVerifierList} from "./interfaces/IVerifierList.sol";

/// @title The list of verifiers, and draws from it; see {IVerifierList}
/// @dev A verifier keeps its place: others who leave do not move it. Places and who was there when a case was opened are
/// then settled before the randomness of its draw is known, and nobody can arrange the list to suit it.
abstract contract VerifierList is Disputes, IVerifierList {
    /// @dev One storage slot. `place` counts from 1.
    struct Entry {
        address operator;
        uint64 since;
        uint16 place;
    }

    uint256 private constant PLACES = 4096;

    address[] private _places;
    uint16[] private _vacant;
    mapping(address verifier => Entry) private _entries;

    /// @inheritdoc IVerifierList
    mapping(address operator => address verifier) public verifierOf;

    /// @inheritdoc IVerifierList
    function enlist() external {
        require(registry.isEligible(msg.sender), NotEligible());
        address operator = registry.operatorOf(msg.sender);
        require(verifierOf[operator] == address(0), AlreadyEnlisted(verifierOf[operator]));

        uint256 place = _vacant.length;
        if (place != 0) {
            place = _vacant[place - 1];
            _vacant.pop();
            _places[place - 1] = msg.sender;
        } else {
            require(_places.length < PLACES, ListFull());
            _places.push(msg.sender);
            place = _places.length;
        }
        _entries[msg.sender] = Entry({operator: operator, since: uint64(block.number), place: uint16(place)});
        verifierOf[operator] = msg.sender;

        emit Enlisted(msg.sender, operator);
    }

    /// @inheritdoc IVerifierList
    function delist(address verifier) external {
        Entry memory entry = _entries[verifier];
        require(entry.place != 0, NotEnlisted());
        require(
            msg.sender == verifier || msg.sender == entry.operator || !registry.isEligible(verifier), NotOperator()
        );

        delete _entries[verifier];
        delete verifierOf[entry.operator];
        delete _places[entry.place - 1];
        _vacant.push(entry.place);

        emit Delisted(verifier, entry.operator);
    }

    /// @inheritdoc IVerifierList
    function verifierCount() public view returns (uint256) {
        return _places.length;
    }

    /// @inheritdoc IVerifierList
    function verifierAt(uint256 place) external view returns (address) {
        return _places[place];
    }

    /// @inheritdoc IVerifierList
    function isEnlisted(address verifier) external view returns (bool) {
        return _entries[verifier].place != 0;
    }

    /// @dev Draws `seats` eligible verifiers without replacement, each as likely as any other.
    /// @param places The first places of the list take part,
    /// @param before of these the verifiers who have been there since an earlier block.
    /// @param parties Verifiers and operators who are not drawn.
    function _sample(bytes32 seed, uint256 places, uint256 before, uint256 seats, address[4] memory parties)
        internal
        view
        returns (address[] memory members)
    {
        members = new address[](seats);
        uint256 found;
        // Fisher and Yates: zero stands for a place that has not been moved yet, n + 1 for place n.
        uint256[] memory order = new uint256[](places);
        for (uint256 i; i < places && found < seats; ++i) {
            uint256 j = i + uint256(keccak256(abi.encode(seed, i))) % (places - i);
            address verifier = _places[order[j] == 0 ? j : order[j] - 1];
            order[j] = order[i] == 0 ? i + 1 : order[i];
            if (_mayJudge(verifier, before, parties)) members[found++] = verifier;
        }
        require(found == seats, NotEnoughVerifiers(found));
    }

    function _mayJudge(address verifier, uint256 before, address[4] memory parties) private view returns (bool) {
        Entry memory entry = _entries[verifier];
        // A vacant place holds the zero address, which is never on the list.
        if (entry.place == 0 || entry.since >= before) return false;
        for (uint256 i; i < parties.length; ++i) {
            if (verifier == parties[i] || entry.operator == parties[i]) return false;
        }
        return registry.isEligible(verifier);
    }
}
