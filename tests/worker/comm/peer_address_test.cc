#include "worker/comm/peer_address.h"

#include <random>
#include <string>

#include "gtest/gtest.h"

namespace kvec::worker::comm {
namespace {

TEST(PeerAddressTest, ReadsWhatItHasWritten) {
  std::mt19937 random(1);
  for (int i = 0; i < 100; ++i) {
    PeerAddress address;
    address.host_id = random();
    address.nonce = random();
    address.shared_memory.resize(random() % 200);
    address.tcp.resize(random() % 200);
    for (char& byte : address.shared_memory) byte = static_cast<char>(random());
    const auto read = ParsePeerAddress(address.Encode());
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->host_id, address.host_id);
    EXPECT_EQ(read->nonce, address.nonce);
    EXPECT_EQ(read->shared_memory, address.shared_memory);
    EXPECT_EQ(read->tcp, address.tcp);
  }
}

TEST(PeerAddressTest, SaysWhatIsWrong) {
  const std::string good = PeerAddress{.host_id = 1, .tcp = "abc"}.Encode();
  const auto message_of = [](const std::string& bytes) {
    return std::string(ParsePeerAddress(bytes).status().message());
  };
  EXPECT_EQ(message_of(""), "has 0 bytes, an address has 33 to 4096");
  EXPECT_EQ(message_of(std::string(5000, 'K')), "has 5000 bytes, an address has 33 to 4096");
  std::string other = good;
  other[0] = 'x';
  EXPECT_EQ(message_of(other), "is no address of this version");
  std::string garbled = good;
  garbled[30] ^= 1;
  EXPECT_EQ(message_of(garbled), "is garbled: its checksum does not fit");
  // Whole by its checksum, with lengths that lead past its end.
  std::string body = good.substr(0, good.size() - 8);
  body[23] = 100;
  const uint64_t checksum = HashBytes(body);
  body.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  EXPECT_EQ(message_of(body), "has 36 bytes, but parts of 0 and 100");
}

TEST(PeerAddressTest, CountsTheMembersOfThisHost) {
  const std::string here = PeerAddress{.host_id = HostId(), .nonce = 1}.Encode();
  const std::string there = PeerAddress{.host_id = HostId() + 1, .nonce = 1}.Encode();
  EXPECT_EQ(NumOnThisHost({here, there, here, "noise"}), 2);
  EXPECT_EQ(NumOnThisHost({""}), 1);
}

TEST(PeerAddressTest, AProcessKnowsItsHostAgain) {
  EXPECT_NE(HostId(), 0u);
  EXPECT_EQ(HostId(), HostId());
}

}  // namespace
}  // namespace kvec::worker::comm
