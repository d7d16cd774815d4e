#include "common/security/listen_address.h"

#include "gtest/gtest.h"

namespace kvec::security {
namespace {

TEST(ListenAddressTest, KnowsWhatOnlyThisMachineReaches) {
  for (const char* address :
       {"127.0.0.1:50051", "127.3.2.1:0", "localhost:1", "LocalHost:1", "[::1]:50051",
        "unix:/run/kvec.sock", "unix:relative", "unix-abstract:kvec"}) {
    EXPECT_TRUE(IsLocalAddress(address)) << address;
  }
}

TEST(ListenAddressTest, TakesEverythingElseForReachable) {
  for (const char* address :
       {"0.0.0.0:50051", "[::]:50051", "10.0.0.1:1", "128.0.0.1:1", "[::ffff:127.0.0.1]:1",
        "[fe80::1]:1", "localhost.example.com:1", "127.0.0.1.example.com:1", "127.1:1", "kvec:1",
        "*:1", ":1", "", "[::1:1", "::1:1", "dns:///localhost:1", "ipv4:127.0.0.1:1"}) {
    EXPECT_FALSE(IsLocalAddress(address)) << address;
  }
}

}  // namespace
}  // namespace kvec::security
