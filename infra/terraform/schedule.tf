resource "aws_scheduler_schedule" "this" {
  #checkov:skip=CKV_AWS_297:The schedule holds no input and so nothing to encrypt. EventBridge Scheduler encrypts with its own key.
  name                = var.function_name
  description         = "One tick of Tidegate a minute."
  schedule_expression = "rate(1 minute)"
  state               = var.schedule_state

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.this.arn
    role_arn = aws_iam_role.schedule.arn

    retry_policy {
      maximum_retry_attempts       = 0
      maximum_event_age_in_seconds = 60
    }

    dead_letter_config {
      arn = aws_sqs_queue.dead_letters.arn
    }
  }

  # The first tick comes at once and needs the permission.
  depends_on = [aws_iam_role_policy.schedule]
}
