// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Disputes} from "./Disputes.sol";
import {IVerifierList} from "./interfaces/IVerifierList.sol";

/// @title The list of verifiers, and draws from it; see {IVerifierList}
/// @dev A verifier keeps its place: others who leave do not move it. Places, and who was there when a case was opened and
/// with what stake, are then settled before the randomness of its draw is known, and nobody can arrange the list to suit it.
/// A draw looks at places that follow from the seed alone. Vacant ones cost next to nothing, and whoever is found to be
/// eligible no longer leaves the list: so it costs nobody's draw twice.
abstract contract VerifierList is Disputes, IVerifierList {
    /// @dev One storage slot. `place` counts from 1.
    struct Entry {
        address operator;
        uint64 since;
        uint16 place;
    }

    /// @dev A draw. `probe` is the number of the next place to look at; only the first `places` take part, of these who was
    /// there before a block and has not added stake since a second (modulo 2^24), and no party.
    struct Draw {
        bytes32 seed;
        uint256 probe;
        uint256 places;
        uint256 openedBlock;
        uint24 openedAt;
        address[4] parties;
    }

    uint256 private constant PLACES = 16_384;
    /// @dev What one call of a draw looks at, so that it stays below a million gas whatever is on the list.
    uint256 private constant MOST_PROBES = 1500;
    uint256 private constant MOST_LOOKS = 24;
    uint256 private constant MOST_PRUNED = 8;

    address[] private _places;
    uint16[] private _vacant;
    /// @dev Bit i of word w stands for place 256 w + i.
    mapping(uint256 word => uint256 bits) private _occupied;
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
        _flip(place);
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
        _remove(verifier, entry);
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

    /// @dev Draws eligible verifiers without replacement, each as likely as any other, until all seats are taken or the
    /// call has looked at enough; then the next goes on where `d.probe` stands.
    /// @param members The first `found` of them sit already; filled further.
    /// @return How many sit now.
    function _sample(Draw memory d, address[] memory members, uint256 found) internal returns (uint256) {
        (uint256[] memory words, uint256 left) = _occupants(d.places);
        uint256 last = d.probe + MOST_PROBES;
        uint256 pruned;
        for (uint256 looks; looks < MOST_LOOKS && pruned < MOST_PRUNED && found < members.length; ++looks) {
            require(left != 0, NotEnoughVerifiers(found));
            uint256 place = _next(d, words, last);
            if (place == d.places) break;
            --left;
            address verifier = _places[place];
            Entry memory entry = _entries[verifier];
            if (entry.since >= d.openedBlock || _sits(verifier, entry.operator, d.parties, members, found)) continue;
            (bool eligible, uint24 grown) = registry.eligibility(verifier);
            if (!eligible) {
                _remove(verifier, entry);
                ++pruned;
            } else if (_age(grown) >= _age(d.openedAt)) {
                members[found++] = verifier;
            }
        }
        return found;
    }

    /// @dev The next occupied place of the sequence that was not looked at in this call, and marks it as looked at; or
    /// `d.places` when it is the last probe's turn. Each hash gives eight numbers of 32 bits.
    function _next(Draw memory d, uint256[] memory words, uint256 last) private pure returns (uint256 place) {
        (bytes32 seed, uint256 probe, uint256 places) = (d.seed, d.probe, d.places);
        place = places;
        assembly ("memory-safe") {
            mstore(0x00, seed)
            let numbers := 0
            let known := 0
            for {} lt(probe, last) { probe := add(probe, 1) } {
                if or(iszero(known), iszero(and(probe, 7))) {
                    mstore(0x20, shr(3, probe))
                    numbers := keccak256(0x00, 0x40)
                    known := 1
                }
                let candidate := shr(32, mul(and(shr(shl(5, and(probe, 7)), numbers), 0xffffffff), places))
                let slot := add(words, shl(5, add(1, shr(8, candidate))))
                let word := mload(slot)
                let bit := shl(and(candidate, 0xff), 1)
                if and(word, bit) {
                    mstore(slot, xor(word, bit))
                    place := candidate
                    probe := add(probe, 1)
                    break
                }
            }
        }
        d.probe = probe;
    }

    /// @dev Which of the first places are taken, and how many of them.
    function _occupants(uint256 places) private view returns (uint256[] memory words, uint256 left) {
        words = new uint256[]((places + 255) >> 8);
        for (uint256 i; i < words.length; ++i) {
            uint256 word = _occupied[i];
            if ((i + 1) << 8 > places) word &= (1 << (places & 255)) - 1;
            words[i] = word;
            left += _count(word);
        }
    }

    function _remove(address verifier, Entry memory entry) private {
        delete _entries[verifier];
        delete verifierOf[entry.operator];
        delete _places[entry.place - 1];
        _vacant.push(entry.place);
        _flip(entry.place);

        emit Delisted(verifier, entry.operator);
    }

    function _flip(uint256 place) private {
        _occupied[(place - 1) >> 8] ^= 1 << ((place - 1) & 255);
    }

    /// @dev Whether a verifier is a party, of a party's operator, or has a seat.
    function _sits(
        address verifier,
        address operator,
        address[4] memory parties,
        address[] memory members,
        uint256 found
    ) private pure returns (bool) {
        for (uint256 i; i < parties.length; ++i) {
            if (verifier == parties[i] || operator == parties[i]) return true;
        }
        for (uint256 i; i < found; ++i) {
            if (verifier == members[i]) return true;
        }
        return false;
    }

    /// @dev Seconds since a second that is known modulo 2^24: half a year.
    function _age(uint24 second) private view returns (uint24 seconds_) {
        unchecked {
            return uint24(block.timestamp) - second;
        }
    }

    /// @dev How many bits are set: sums of 1, 2, 4 and 8 neighbours, then of all bytes.
    function _count(uint256 mask) internal pure returns (uint256 ones) {
        if (mask == type(uint256).max) return 256;
        unchecked {
            mask -= (mask >> 1) & (type(uint256).max / 3);
            mask = (mask & (type(uint256).max / 5)) + ((mask >> 2) & (type(uint256).max / 5));
            mask = (mask + (mask >> 4)) & (type(uint256).max / 17);
            ones = (mask * (type(uint256).max / 255)) >> 248;
        }
    }
}
