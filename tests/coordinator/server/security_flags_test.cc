#include "coordinator/server/security_flags.h"

#include <cstdlib>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::server {
namespace {

using testing::HasSubstr;

class SecurityFlagsTest : public testing::Test {
 protected:
  ~SecurityFlagsTest() override { unsetenv("KVEC_JOIN_TOKEN"); }

  absl::Status Apply() { return ApplySecurity(flags_, options_); }
  void ExpectRefusal(const std::string& message) {
    const absl::Status status = Apply();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr(message));
  }

  SecurityFlags flags_;
  CoordinatorServer::Options options_;
};

TEST_F(SecurityFlagsTest, TheLoopbackNeedsNothing) { EXPECT_TRUE(Apply().ok()); }

TEST_F(SecurityFlagsTest, ClientsFromElsewhereNeedTlsAndATokenOrACertificate) {
  options_.listen = "10.0.0.1:50051";
  ExpectRefusal("--listen: 10.0.0.1:50051 is beyond the loopback and not encrypted: --tls-cert");
  flags_.tokens = "tokens";
  ExpectRefusal("not encrypted: --tls-cert");
  flags_.tls.certificate = "crt";
  EXPECT_TRUE(Apply().ok());
  flags_.tokens.clear();
  ExpectRefusal("takes anybody: --tokens or --tls-client-ca");
  flags_.tls.client_ca = "ca";
  EXPECT_TRUE(Apply().ok());
}

TEST_F(SecurityFlagsTest, WorkersFromElsewhereNeedTlsAndATokenOrACertificate) {
  options_.cluster_listen = "[::]:50052";
  ExpectRefusal("--cluster-listen: [::]:50052 is beyond the loopback and not encrypted");
  flags_.cluster_tls.certificate = "crt";
  ExpectRefusal("--join-token-file or --cluster-tls-client-ca");
  flags_.join_token_file = "token";
  EXPECT_TRUE(Apply().ok());
  flags_.join_token_file.clear();
  setenv("KVEC_JOIN_TOKEN", "token", 1);
  EXPECT_TRUE(Apply().ok());
  EXPECT_EQ(options_.join_token, "token");
}

TEST_F(SecurityFlagsTest, InsecureAllowsBoth) {
  options_.listen = "0.0.0.0:50051";
  options_.cluster_listen = "0.0.0.0:50052";
  flags_.insecure = true;
  EXPECT_TRUE(Apply().ok());
  flags_.local_listen = "0.0.0.0:50053";
  ExpectRefusal("--local-listen: 0.0.0.0:50053 is not on the loopback");
}

TEST_F(SecurityFlagsTest, AliasesAreProtectedAsTheClientsPortIsOrOnTheLoopback) {
  options_.aliases = {{"kvec", "10.0.0.1:50061", {}}};
  ExpectRefusal("--alias: 10.0.0.1:50061 is beyond the loopback and not encrypted");
  flags_.local_aliases = true;
  ExpectRefusal("--local-aliases: 10.0.0.1:50061 is not on the loopback");
  flags_.insecure = true;
  ExpectRefusal("--local-aliases: 10.0.0.1:50061 is not on the loopback");
  options_.aliases[0].listen = "127.0.0.1:50061";
  EXPECT_TRUE(Apply().ok());
  EXPECT_TRUE(options_.local_aliases);
}

TEST_F(SecurityFlagsTest, AJoinTokenOfTheEnvironmentGivesWayToAFile) {
  setenv("KVEC_JOIN_TOKEN", "two words", 1);
  ExpectRefusal("KVEC_JOIN_TOKEN: the token has a space");
  flags_.join_token_file = "token";
  EXPECT_TRUE(Apply().ok());
  EXPECT_EQ(options_.join_token, "");
}

}  // namespace
}  // namespace kvec::coordinator::server
