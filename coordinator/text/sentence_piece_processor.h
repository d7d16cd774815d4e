#ifndef KVEC_COORDINATOR_TEXT_SENTENCE_PIECE_PROCESSOR_H_
#define KVEC_COORDINATOR_TEXT_SENTENCE_PIECE_PROCESSOR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kvec::coordinator::text {

// libsentencepiece behind standard types: its header puts std::string_view into namespace absl,
// where Abseil's own string_view lives, so no file can include both. Immutable; any thread.
class SentencePieceProcessor {
 public:
  // `model_proto` is a serialised sentencepiece.ModelProto. nullptr on failure, with the library's
  // message in `error`.
  static std::unique_ptr<SentencePieceProcessor> Create(const std::string& model_proto,
                                                        std::string& error);
  ~SentencePieceProcessor();

  // False on failure, with the library's message in `error`.
  bool Encode(std::string_view text, std::vector<int>& ids, std::string& error) const;

 private:
  struct Library;

  explicit SentencePieceProcessor(std::unique_ptr<Library> library);

  const std::unique_ptr<Library> library_;
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_SENTENCE_PIECE_PROCESSOR_H_
