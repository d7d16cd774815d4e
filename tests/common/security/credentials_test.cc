// server_credentials, channel_credentials, token_processor and plaintext_credentials, which are of
// use together only: real servers and clients over the loopback.

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "common/security/channel_credentials.h"
#include "common/security/secret.h"
#include "common/security/server_credentials.h"
#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "gtest/gtest.h"
#include "kvec/v1/cluster.grpc.pb.h"
#include "kvec/v1/inference.grpc.pb.h"
#include "tests/common/model/temp_folder.h"
#include "tests/common/security/certificates.h"

namespace kvec::security {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;

constexpr std::chrono::seconds kDeadline(60);

// Counts what reaches it, and tells whether the token did.
class CountingService final : public v1::Inference::CallbackService {
 public:
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override {
    ++calls;
    saw_token = saw_token || context->client_metadata().count("authorization") > 0;
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  std::atomic<int> calls = 0;
  std::atomic<bool> saw_token = false;
};

class CredentialsTest : public testing::Test {
 protected:
  struct Client {
    ClientTls tls;
    std::string authorization;  // empty: no header
  };

  void SetUp() override {
    ca_ = folder_.Write("ca.crt", authority_.certificate());
    server_tls_ = {folder_.Write("tls.crt", server_identity_.certificate),
                   folder_.Write("tls.key", server_identity_.key), ""};
    const Identity client = authority_.Sign("client");
    client_certificate_ = folder_.Write("client.crt", client.certificate);
    client_key_ = folder_.Write("client.key", client.key);
  }

  void TearDown() override {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
  }

  void StartServer(const ServerTls& tls, std::shared_ptr<TokenGuard> guard = nullptr) {
    const auto credentials = MakeServerCredentials(tls, std::move(guard));
    ASSERT_TRUE(credentials.ok()) << credentials.status();
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", *credentials, &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    target_ = "127.0.0.1:" + std::to_string(port);
  }

  // A connection of its own, which no other channel shares.
  std::shared_ptr<grpc::Channel> Dial(const ClientTls& tls) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto credentials = MakeChannelCredentials(tls, arguments);
    EXPECT_TRUE(credentials.ok()) << credentials.status();
    return grpc::CreateCustomChannel(target_, *credentials, arguments);
  }

  static std::unique_ptr<grpc::ClientContext> MakeContext(const std::string& authorization) {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(std::chrono::system_clock::now() + kDeadline);
    if (!authorization.empty()) context->AddMetadata("authorization", authorization);
    return context;
  }

  static grpc::Status GetModel(const std::shared_ptr<grpc::Channel>& channel,
                               const std::string& authorization = "") {
    const auto context = MakeContext(authorization);
    v1::GetModelResponse response;
    return v1::Inference::NewStub(channel)->GetModel(context.get(), {}, &response);
  }

  grpc::Status Call(const Client& client) {
    return GetModel(Dial(client.tls), client.authorization);
  }

  // New connections are tried until a call ends with this code.
  void AwaitCall(const ClientTls& tls, StatusCode code) {
    const auto deadline = std::chrono::steady_clock::now() + kDeadline;
    while (Call({tls, ""}).error_code() != code) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "no call ended with " << code;
    }
  }

  grpc::Status CheckHealth(const Client& client) {
    const auto context = MakeContext(client.authorization);
    grpc::health::v1::HealthCheckResponse response;
    return grpc::health::v1::Health::NewStub(Dial(client.tls))->Check(context.get(), {}, &response);
  }

  static ClientTls Trusting(const std::string& ca) {
    ClientTls tls;
    tls.ca = ca;
    return tls;
  }
  ClientTls TrustingClient() const { return Trusting(ca_); }
  ClientTls ClientWith(const std::string& certificate, const std::string& key) const {
    ClientTls tls = TrustingClient();
    tls.certificate = certificate;
    tls.key = key;
    return tls;
  }
  ClientTls KnownClient() const { return ClientWith(client_certificate_, client_key_); }

  const TempFolder folder_;
  const TestAuthority authority_{"authority"};
  const TestAuthority other_authority_{"other authority"};
  const Identity server_identity_ = authority_.Sign("server");
  std::string ca_;
  ServerTls server_tls_;
  std::string client_certificate_;
  std::string client_key_;
  CountingService service_;
  std::unique_ptr<grpc::Server> server_;
  std::string target_;
};

TEST_F(CredentialsTest, TlsServesWhoeverTrustsTheServer) {
  StartServer(server_tls_);
  EXPECT_TRUE(Call({TrustingClient(), ""}).ok());
  EXPECT_TRUE(Call({KnownClient(), ""}).ok());
  EXPECT_EQ(service_.calls, 2);
}

TEST_F(CredentialsTest, TlsFailsForWhoeverDoesNot) {
  StartServer(server_tls_);
  const std::string other_ca = folder_.Write("other.crt", other_authority_.certificate());
  ClientTls wrong_name = TrustingClient();
  wrong_name.server_name = "elsewhere.example.com";
  ClientTls systems;
  systems.enabled = true;
  const std::pair<const char*, ClientTls> cases[] = {
      {"another authority", Trusting(other_ca)},
      {"the system's authorities", systems},
      {"another name", wrong_name},
      {"nothing encrypted", {}},
  };
  for (const auto& [name, tls] : cases) {
    EXPECT_EQ(Call({tls, ""}).error_code(), StatusCode::UNAVAILABLE) << name;
  }
  EXPECT_EQ(service_.calls, 0);
}

TEST_F(CredentialsTest, AServerNameTakesTheHostsPlace) {
  const Identity named = authority_.Sign("server", "DNS:kvec.example.com");
  server_tls_.certificate = folder_.Write("named.crt", named.certificate);
  server_tls_.key = folder_.Write("named.key", named.key);
  StartServer(server_tls_);
  EXPECT_EQ(Call({TrustingClient(), ""}).error_code(), StatusCode::UNAVAILABLE);
  ClientTls tls = TrustingClient();
  tls.server_name = "kvec.example.com";
  EXPECT_TRUE(Call({tls, ""}).ok());
}

TEST_F(CredentialsTest, MutualTlsWantsACertificateOfItsAuthority) {
  server_tls_.client_ca = ca_;
  StartServer(server_tls_);
  EXPECT_TRUE(Call({KnownClient(), ""}).ok());
  EXPECT_EQ(Call({TrustingClient(), ""}).error_code(), StatusCode::UNAVAILABLE);
  const Identity stranger = other_authority_.Sign("client");
  const ClientTls strange = ClientWith(folder_.Write("strange.crt", stranger.certificate),
                                       folder_.Write("strange.key", stranger.key));
  EXPECT_EQ(Call({strange, ""}).error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(Call({ClientTls(), ""}).error_code(), StatusCode::UNAVAILABLE);
  // Health is no exception: the connection itself is refused.
  EXPECT_EQ(CheckHealth({TrustingClient(), ""}).error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(service_.calls, 1);
}

TEST_F(CredentialsTest, ANewCertificateIsShownToNewConnectionsAndOldOnesStay) {
  StartServer(server_tls_);
  const auto old_connection = Dial(TrustingClient());
  ASSERT_TRUE(GetModel(old_connection).ok());
  const std::string other_ca = folder_.Write("other.crt", other_authority_.certificate());
  ASSERT_EQ(Call({Trusting(other_ca), ""}).error_code(), StatusCode::UNAVAILABLE);

  const Identity renewed = other_authority_.Sign("server");
  std::filesystem::rename(folder_.Write("new.key", renewed.key), server_tls_.key);
  std::filesystem::rename(folder_.Write("new.crt", renewed.certificate), server_tls_.certificate);
  AwaitCall(Trusting(other_ca), StatusCode::OK);
  EXPECT_EQ(Call({TrustingClient(), ""}).error_code(), StatusCode::UNAVAILABLE);
  EXPECT_TRUE(GetModel(old_connection).ok());
}

TEST_F(CredentialsTest, AKeyThatDoesNotFitClosesThePortUntilItDoes) {
  StartServer(server_tls_);
  const auto old_connection = Dial(TrustingClient());
  ASSERT_TRUE(GetModel(old_connection).ok());
  const Identity renewed = authority_.Sign("server");
  std::filesystem::rename(folder_.Write("new.crt", renewed.certificate), server_tls_.certificate);
  AwaitCall(TrustingClient(), StatusCode::UNAVAILABLE);
  EXPECT_TRUE(GetModel(old_connection).ok());
  std::filesystem::rename(folder_.Write("new.key", renewed.key), server_tls_.key);
  AwaitCall(TrustingClient(), StatusCode::OK);
}

// The same, over what is encrypted and what is not.
class TokenTest : public CredentialsTest, public testing::WithParamInterface<bool> {
 protected:
  void StartGuardedServer() {
    StartServer(GetParam() ? server_tls_ : ServerTls(), TokenGuard::OfToken("one"));
  }
  Client WithHeader(std::string authorization) const {
    return {GetParam() ? TrustingClient() : ClientTls(), std::move(authorization)};
  }
};

INSTANTIATE_TEST_SUITE_P(PlaintextAndTls, TokenTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Tls" : "Plaintext"; });

TEST_P(TokenTest, OnlyCallsWithAKnownTokenReachTheService) {
  StartGuardedServer();
  for (const char* header : {"", "Bearer two", "Bearer ", "one", "Basic one"}) {
    const grpc::Status status = Call(WithHeader(header));
    EXPECT_EQ(status.error_code(), StatusCode::UNAUTHENTICATED) << header;
    EXPECT_THAT(status.error_message(), HasSubstr("authorization: "));
  }
  EXPECT_EQ(service_.calls, 0);
  EXPECT_TRUE(Call(WithHeader("Bearer one")).ok());
  EXPECT_EQ(service_.calls, 1);
  EXPECT_FALSE(service_.saw_token);
}

TEST_P(TokenTest, TwoTokensAreRefusedWhicheverIsRight) {
  StartGuardedServer();
  for (const auto& [first, second] :
       {std::pair("Bearer one", "Bearer two"), std::pair("Bearer two", "Bearer one"),
        std::pair("Bearer one", "Bearer one")}) {
    const auto context = MakeContext(first);
    context->AddMetadata("authorization", second);
    v1::GetModelResponse response;
    EXPECT_EQ(v1::Inference::NewStub(Dial(WithHeader("").tls))
                  ->GetModel(context.get(), {}, &response)
                  .error_code(),
              StatusCode::UNAUTHENTICATED);
  }
  EXPECT_EQ(service_.calls, 0);
}

TEST_P(TokenTest, HealthIsOpenAndNothingElseIs) {
  StartGuardedServer();
  EXPECT_TRUE(CheckHealth(WithHeader("")).ok());
  EXPECT_TRUE(CheckHealth(WithHeader("Bearer two")).ok());
  const auto channel = Dial(WithHeader("").tls);
  // A streaming method that is there but not served, and services that are not there at all.
  const auto context = MakeContext("");
  const auto stream = v1::Inference::NewStub(channel)->Generate(context.get(), {});
  v1::GenerateResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::UNAUTHENTICATED);
  const auto attach_context = MakeContext("");
  const auto attachment = v1::Cluster::NewStub(channel)->Attach(attach_context.get());
  EXPECT_EQ(attachment->Finish().error_code(), StatusCode::UNAUTHENTICATED);
}

TEST_P(TokenTest, RefusedCallsDoNotHarmTheOthersOfTheirConnection) {
  StartGuardedServer();
  const auto channel = Dial(WithHeader("").tls);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(GetModel(channel, "Bearer two").error_code(), StatusCode::UNAUTHENTICATED);
    EXPECT_TRUE(GetModel(channel, "Bearer one").ok());
  }
  EXPECT_EQ(service_.calls, 50);
}

TEST_F(CredentialsTest, UnusableFilesAreRefusedAtOnce) {
  ServerTls tls = server_tls_;
  tls.key = folder_.File("none");
  EXPECT_EQ(MakeServerCredentials(tls, nullptr).status().code(), absl::StatusCode::kNotFound);
  tls = server_tls_;
  tls.client_ca = folder_.Write("empty", "");
  EXPECT_EQ(MakeServerCredentials(tls, nullptr).status().code(),
            absl::StatusCode::kInvalidArgument);
  grpc::ChannelArguments arguments;
  EXPECT_FALSE(MakeChannelCredentials(Trusting(folder_.File("none")), arguments).ok());
  EXPECT_FALSE(MakeChannelCredentials(ClientWith(client_certificate_, ca_), arguments).ok());
}

}  // namespace
}  // namespace kvec::security
