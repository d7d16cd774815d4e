#include "coordinator/client/connection.h"

#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/model/temp_folder.h"
#include "tests/coordinator/client/fake_coordinator.h"

namespace kvec::coordinator::client {
namespace {

using testing::HasSubstr;

class ConnectionTest : public testing::Test {
 protected:
  ConnectionTest() {
    options_.target = coordinator_.target();
    options_.token_file = folder_.Write("token", "kvec_test\n");
  }

  const TempFolder folder_;
  FakeCoordinator coordinator_{AnswerWith({})};
  ConnectionOptions options_;
};

TEST_F(ConnectionTest, SendsItsTokenWithEveryCall) {
  const auto connection = Connection::Open(options_);
  ASSERT_TRUE(connection.ok()) << connection.status();
  for (int call = 0; call < 3; ++call) {
    ASSERT_TRUE((*connection)->GetModel().ok());
    EXPECT_EQ(coordinator_.header("authorization"), "Bearer kvec_test");
  }
}

TEST_F(ConnectionTest, SendsNoneThatItDoesNotHave) {
  options_.token_file.clear();
  const auto connection = Connection::Open(options_);
  ASSERT_TRUE(connection.ok()) << connection.status();
  ASSERT_TRUE((*connection)->GetModel().ok());
  EXPECT_EQ(coordinator_.header("authorization"), "");
}

TEST_F(ConnectionTest, HandsOnTheTraceItIsPartOf) {
  const std::string parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  setenv("TRACEPARENT", parent.c_str(), 1);
  const auto traced = Connection::Open(options_);
  setenv("TRACEPARENT", "no\nheader", 1);
  const auto untraced = Connection::Open(options_);
  unsetenv("TRACEPARENT");
  ASSERT_TRUE((*traced)->GetModel().ok());
  EXPECT_EQ(coordinator_.header("traceparent"), parent);
  ASSERT_TRUE((*untraced)->GetModel().ok());
  EXPECT_EQ(coordinator_.header("traceparent"), "");
}

TEST_F(ConnectionTest, SendsNoTokenToAnotherMachineUnencrypted) {
  options_.target = "203.0.113.1:50051";
  const absl::Status status = Connection::Open(options_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("203.0.113.1:50051 unencrypted"));
  options_.insecure = true;
  EXPECT_TRUE(Connection::Open(options_).ok());
  options_.insecure = false;
  options_.tls.enabled = true;
  EXPECT_TRUE(Connection::Open(options_).ok());
}

TEST_F(ConnectionTest, NamesAFileThatItCantUse) {
  options_.token_file = "/no/such/token";
  EXPECT_THAT(Connection::Open(options_).status().message(), HasSubstr("/no/such/token: "));
  options_.tls.ca = "/no/such/ca";
  EXPECT_THAT(Connection::Open(options_).status().message(), HasSubstr("/no/such/ca: "));
}

}  // namespace
}  // namespace kvec::coordinator::client
