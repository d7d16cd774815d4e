#include "worker/comm/route.h"

#include "gtest/gtest.h"

namespace kvec::worker::comm {
namespace {

TEST(RouteTest, TheLoopbackIsReachedOverItself) {
  EXPECT_EQ(InterfaceTowards("127.0.0.1:50052").value_or("none"), "lo");
  EXPECT_EQ(InterfaceTowards("localhost:1").value_or("none"), "lo");
}

TEST(RouteTest, SaysWhatItCanNotRead) {
  for (const char* target : {"", "host", ":1", "unix:/tmp/socket", "dns:///host:1"}) {
    EXPECT_EQ(InterfaceTowards(target).status().code(), absl::StatusCode::kInvalidArgument)
        << target;
  }
}

TEST(RouteTest, UnknownNamesMayComeLater) {
  EXPECT_EQ(InterfaceTowards("no-such-host.invalid:1").status().code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace kvec::worker::comm
